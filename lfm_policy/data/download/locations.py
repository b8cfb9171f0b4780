"""Where public demonstrations are: the one table of official locations, sizes and checksums.

robomimic's files for robosuite 1.5 are on the Hugging Face hub (robomimic's own registry names
them); the table pins one revision. Checksums that are not in the table are asked of the hub, which
states the SHA-256 of every large file. Image files exist only of robomimic's first release, on
Stanford's server, which states no checksum, and neither does Diffusion Policy's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath

from lfm_policy.errors import InputError
from lfm_runtime.registry import nearest_names

HUB_ID = "robomimic/robomimic_datasets"
REVISION = "74fa018461f479cd9fd15b924a16103012096203"
_STANFORD = "http://downloads.cs.stanford.edu/downloads/rt_benchmark"
_DIFFUSION_POLICY = "https://diffusion-policy.cs.columbia.edu/data/training"


@dataclass(frozen=True)
class Location:
    """One file and where it goes.

    Attributes:
        url: where it is; empty for a file of the hub.
        path: where it goes, below the data folder: the file, or the folder that is in an archive.
        size: bytes; None where nobody states them.
        sha256: of the file; None where it is asked of the hub, or known after the first download.
        hub_file: its name in `HUB_ID`.
        archive: name of the zip file that holds the folder ``path``; empty for a plain file.
        note: what to know before using it.
    """

    url: str
    path: str
    size: int | None = None
    sha256: str | None = None
    hub_file: str = ""
    archive: str = ""
    note: str = ""


_TASKS = {
    "ph": ("lift", "can", "square", "tool_hang", "transport"),
    "mh": ("lift", "can", "square", "transport"),
}

_KNOWN: dict[str, tuple[int, str]] = {
    "v1.5/lift/ph/low_dim_v15.hdf5": (
        21_084_088,
        "2067777cb8b532e9263dd09fd6448c41cc31224bb27be4a3b734010ae13eb540",
    ),
    "v1.5/can/ph/low_dim_v15.hdf5": (
        46_889_752,
        "3f2eb92e0a5025d0095e866ac16cc8092d6a762abe27dec90dbaff9027282962",
    ),
    "v1.5/can/ph/demo_v15.hdf5": (
        64_932_974,
        "86961df85af1b9c6b9d4182a3755a8a4db6d0660cd550e45cca1f7accdb6d73d",
    ),
    "v1.5/square/ph/low_dim_v15.hdf5": (
        51_145_256,
        "45d8cabb6d57a4c03e839aa5e4b3e58fb60fe8bd20e1951fec563a2abfd14951",
    ),
    "v1.5/tool_hang/ph/low_dim_v15.hdf5": (
        198_601_752,
        "c5cb01b119a109a3d4842ca515906e86f1f35a8ee1a333d22b3503c1a513a8f4",
    ),
    "v1.5/transport/ph/low_dim_v15.hdf5": (
        303_187_328,
        "260515618f4c8b660e54171497ecceb08c7c6463691a9ce862b158bcacd950b4",
    ),
}
"""Size and SHA-256 at `REVISION`."""


def _robomimic(task: str, source: str) -> dict[str, Location]:
    name = f"robomimic/{task}/{source}"
    found = {}
    for kind, file in (("", "low_dim"), ("/raw", "demo")):
        hub_file = f"v1.5/{task}/{source}/{file}_v15.hdf5"
        size, sha256 = _KNOWN.get(hub_file, (None, None))
        found[name + kind] = Location(
            url="",
            path=f"{name}/{file}_v15.hdf5",
            size=size,
            sha256=sha256,
            hub_file=hub_file,
            note="simulator states without observations: `lfm-policy extract`" if kind else "",
        )
    found[f"{name}/image"] = Location(
        url=f"{_STANFORD}/{task}/{source}/image.hdf5",
        path=f"{name}/image.hdf5",
        note="of 2021, recorded with robosuite 1.2; for images of robosuite 1.5 download "
        f"{name}/raw and extract them",
    )
    return found


LOCATIONS: dict[str, Location] = {
    **{
        name: location
        for source, tasks in _TASKS.items()
        for task in tasks
        for name, location in _robomimic(task, source).items()
    },
    "pusht": Location(
        url=f"{_DIFFUSION_POLICY}/pusht.zip",
        path="pusht/pusht_cchi_v7_replay.zarr",
        archive="pusht.zip",
    ),
}
"""By the name on the command line; ``robomimic/<task>/<source>`` alone is the low-dimensional
file."""


def find_location(name: str) -> Location:
    """Return the entry called ``name``; ``/low_dim`` at its end may be left out.

    Raises:
        InputError: there is none; the message gives the nearest names.
    """
    short = name.removesuffix("/low_dim")
    if short not in LOCATIONS:
        raise InputError(
            f"there is no dataset '{name}' to download: {nearest_names(short, tuple(LOCATIONS))}"
        )
    return LOCATIONS[short]


def where_to_get(path: str | PurePath, data: str | PurePath = "data") -> str:
    """Say how to get demonstrations that are not at ``path``, after a semicolon; "" if unknown.

    Known are the names of files that `LOCATIONS` fetches, and those of robomimic's tasks, such as
    ``data/lift.hdf5``.

    Args:
        path: where nothing is.
        data: folder that ``lfm-policy download`` fills.
    """
    wanted = PurePath(path)
    for name, location in LOCATIONS.items():
        # Of robomimic's files, which all have the same name, the folder must be right as well.
        parts = PurePath(location.path).parts
        tail = parts if name.startswith("robomimic") else parts[-1:]
        if wanted.parts[-len(tail) :] == tail:
            fetched = PurePath(data) / location.path
            if Path(fetched).exists():
                return f"; it is at {fetched}: dataset.path={fetched}"
            move = "" if fetched == wanted else f" to {fetched}"
            return f"; `lfm-policy download {name}` fetches it{move}"
    task = wanted.stem
    if wanted.suffix == ".hdf5" and task in _TASKS["ph"]:
        return (
            f"; `lfm-policy download robomimic/{task}/ph` fetches human demonstrations, "
            f"`lfm-policy collect {_collected(task)} --output {wanted}` makes some"
        )
    return ""


def _collected(task: str) -> str:
    return "".join(word.capitalize() for word in task.split("_"))
