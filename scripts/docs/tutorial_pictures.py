"""Pictures of the tutorials: parts of what the commands on their pages drew and filmed.

    python scripts/docs/tutorial_pictures.py FOLDER

FOLDER has a folder for each tutorial in which its commands were run. What is not there is left as
it is. Colours are made fewer, so that no picture weighs more than a page should.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "pictures"
HEAVIEST = 150_000
"""Bytes of a picture."""


@dataclass(frozen=True)
class Part:
    """A part of a picture.

    Attributes:
        source: below FOLDER.
        left, top, right, bottom: as shares of width and height.
        width: in pixels, of the result.
    """

    source: str
    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0
    width: int = 1000

    def draw(self, source: Path) -> Image.Image:
        """Return the part."""
        with Image.open(source) as opened:
            image = opened.convert("RGB")
        shares = (self.left, self.top, self.right, self.bottom)
        box = [round(share * side) for share, side in zip(shares, image.size * 2, strict=True)]
        part = image.crop((box[0], box[1], box[2], box[3]))
        return part.resize((self.width, round(self.width * part.height / part.width)))


@dataclass(frozen=True)
class Strip:
    """Frames of a film side by side, the first and the last among them.

    Attributes:
        source: below FOLDER.
        frames: how many.
        height: in pixels.
    """

    source: str
    frames: int = 5
    height: int = 200

    def draw(self, source: Path) -> Image.Image:
        """Return the strip."""
        with av.open(str(source)) as container:
            film = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        chosen = np.linspace(0, len(film) - 1, self.frames).round().astype(int)
        shown = [Image.fromarray(film[number]) for number in chosen]
        width = round(self.height * shown[0].width / shown[0].height)
        gap = 6
        strip = Image.new("RGB", (self.frames * (width + gap) - gap, self.height), "white")
        for place, image in enumerate(shown):
            strip.paste(image.resize((width, self.height)), (place * (width + gap), 0))
        return strip


DRAWN: dict[str, Part | Strip] = {
    "pusht_demonstrations": Part("pusht/demonstrations.png", bottom=0.265),
    "pusht_training": Part("pusht/training.png"),
    "pusht_film": Strip("pusht/runs/pusht-lfm3/eval/videos/episode_0003_success.mp4"),
    "own_state_check": Part("own_state/runs/my_robot/check/check.png", bottom=0.513),
    "own_cameras_inspect": Part("own_cameras/my_arm.png", top=0.67, right=0.5, bottom=0.96),
    "own_cameras_training": Part("own_cameras/training.png", bottom=0.612),
    "own_cameras_check": Part("own_cameras/runs/my_arm/check/check.png", top=0.725),
    "own_cameras_film": Strip(
        "own_cameras/runs/my_arm/student-nfe1-regression/eval/videos/episode_0000_success.mp4",
        frames=4,
    ),
    "robosuite_film": Strip("robosuite/runs/lift/eval/videos/episode_0000_success.mp4"),
    "real_arm_replay": Part("real_arm/first.png", bottom=0.427),
}
"""By the name of the picture."""


def main() -> None:
    """Draw all pictures whose sources are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name, picture in DRAWN.items():
        source = folder / picture.source
        if not source.exists():
            print(f"{name}: there is no {source}, left as it is")
            continue
        image, target = picture.draw(source), PICTURES / f"{name}.png"
        colours = 256
        while True:
            few = image.quantize(colours, dither=Image.Dither.NONE)
            few.save(target, optimize=True)
            if target.stat().st_size <= HEAVIEST or colours <= 16:
                break
            colours //= 2
        print(f"{name}: {image.width} x {image.height}, {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
