"""What every observation encoder and its configuration share."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor, nn

from lfm_policy.encoders.options import EncoderConfig
from lfm_policy.errors import InputError

__all__ = ["EncoderConfig", "ObsEncoder"]


class ObsEncoder(nn.Module):
    """Turns a short history of named observations into one condition vector.

    It runs once per action chunk, whatever the number of blocks and solver steps that then use
    its result. It works in two steps, so that a frame is looked at once, however often it is part
    of a history:

    - ``encode_images(obs)`` turns every camera image into a feature vector by itself;
    - ``fuse(obs)`` turns the history of features and low-dimensional observations into the
      condition. Subclasses implement it, and the former if they see images.

    ``obs`` has for every name in ``obs_keys`` a tensor of shape (batch, n_obs_steps, *shape),
    oldest first; other entries are ignored. Low-dimensional observations are floating point and
    normalised, images uint8 (height, width, channels).

    Attributes:
        same_work: whether it does the same sequence of operations for every batch on a GPU, with no
            look at their values, so that a gradient step can be recorded and replayed.
        obs_shapes: shape of one frame of each observation, without batch and history.
        n_obs_steps: frames of history.
        cond_dim: length of the condition vector, 0 without observations.
    """

    same_work: bool = False

    def __init__(
        self, obs_shapes: Mapping[str, tuple[int, ...]], n_obs_steps: int, cond_dim: int
    ) -> None:
        super().__init__()
        self.obs_shapes = dict(obs_shapes)
        self.n_obs_steps = n_obs_steps
        self.cond_dim = cond_dim

    @property
    def obs_keys(self) -> tuple[str, ...]:
        """Names of the observations it reads, in the order in which it uses them."""
        return tuple(self.obs_shapes)

    @property
    def has_parameters(self) -> bool:
        """Whether there is anything to train, or to store in a checkpoint."""
        return any(True for _ in self.parameters())

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Names of the observations that are camera images."""
        return ()

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return the weights that training changes, by name; those of frozen backbones are not."""
        return dict(self.named_parameters())

    def load_pretrained(self, keys: Collection[str] | None = None) -> None:
        """Load the weights of pretrained backbones; called once, when a training starts.

        Args:
            keys: of cameras, all by default; a backbone that others share with them is left alone.
        """

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor | None:
        """Return the condition, (batch, cond_dim), or None when ``cond_dim`` is 0.

        Images whose features are known already are taken as those.

        Raises:
            InputError: an observation is missing or has the wrong shape; the message names it.
        """
        return self.fuse(self.encode_images(obs))

    def encode_images(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the observations with (batch, steps, features) in place of images.

        The number of steps may be any. What is no image, or is features already, is passed on.
        """
        return dict(obs)

    def feature_dim(self, key: str) -> int:
        """Return the length of the feature vector of a frame of camera ``key``."""
        raise NotImplementedError(f"{type(self).__name__} sees no images")

    def frame_features(self, key: str, frames: Tensor, view: int) -> Tensor:
        """Return the features of single frames in one of a series of fixed views.

        Args:
            key: name of the camera.
            frames: (n, height, width, channels) uint8.
            view: 0 is the centre crop; the others are random crops and colours, always the same.

        Returns:
            (n, feature_dim) float32.
        """
        raise NotImplementedError(f"{type(self).__name__} sees no images")

    def fuse(self, obs: Mapping[str, Tensor]) -> Tensor | None:
        """Return the condition from low-dimensional observations and the features of images."""
        raise NotImplementedError

    def _observation(
        self, obs: Mapping[str, Tensor], key: str, frame: tuple[int, ...] | None = None
    ) -> Tensor:
        """Return one observation after checking that it is there and has the right shape.

        ``frame`` is the shape of one step, by default that of the observation.

        Raises:
            InputError: it is missing or has another shape; the message names it.
        """
        if key not in obs:
            raise InputError(
                f"observation '{key}' is missing: expected {', '.join(self.obs_keys)}; found "
                f"{', '.join(obs) or 'none'}"
            )
        value = obs[key]
        shape = (self.n_obs_steps, *(self.obs_shapes[key] if frame is None else frame))
        if value.shape[1:] != shape:
            raise InputError(
                f"observation '{key}' has shape {tuple(value.shape)}, expected (batch, "
                f"{', '.join(map(str, shape))}): {self.n_obs_steps} frames of history"
            )
        return value
