"""The pixels of training clips: the frames that an evaluation shows of a clip, scaled for the tower.

The daemon's own functions plan, choose and decode the frames. They run in this process, outside the sandbox, since
training data comes from the user.
"""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connectors.errors import Poison, Reason
from connectors.media.protocols import Media
from connectors.prompt_file.media_shelf import MediaShelf
from daemon.config.settings import LimitsSettings
from daemon.decoding.child.frame_writer import FrameWriter, writer_of
from daemon.decoding.child.session import plan
from daemon.decoding.media import MediaLimits
from daemon.decoding.open_media import OpenMedia
from daemon.windows import plan_windows
from neva.media_settings import MediaSettings
from neva.pixel_values import TowerPixels, pixel_values

_LIMITS = LimitsSettings()
_MEDIA_LIMITS = MediaLimits(_LIMITS.max_pixels, _LIMITS.max_duration_s)


def read_frames(media: Media, shown: MediaSettings, decoder: str = "av") -> NDArray[np.uint8]:
    """Return the frames that ``shown`` chooses, ``uint8[F, H, W, 3]`` RGB, upright, at native size.

    Raises:
        Poison: the clip can't be opened, or none of its frames can be decoded.
    """
    opened = OpenMedia.open(media, _LIMITS.max_clip_bytes)
    try:
        facts, index = plan(opened.descriptor, _MEDIA_LIMITS, lambda: None)
        windows, frames = shown.to_policies()
        (window,) = plan_windows(index.pts_ns, index.duration_ns, windows, frames, index.keyframes)
        rgb = np.empty((len(window.frame_indices), facts.height, facts.width, 3), np.uint8)
        writer = writer_of(opened.descriptor, index, _MEDIA_LIMITS, decoder=decoder)
        try:
            writer.want(list(window.frame_indices))
            _write(writer, window.frame_indices, rgb)
        finally:
            writer.close()
    finally:
        opened.close()
    return rgb


def _write(writer: FrameWriter, indices: tuple[int, ...], rgb: NDArray[np.uint8]) -> None:
    """Write each frame into its place; a frame that can't be decoded is replaced by the one before it."""
    readable = [False] * len(indices)
    for place, index in enumerate(indices):
        if place and index == indices[place - 1]:
            rgb[place], readable[place] = rgb[place - 1], readable[place - 1]
        else:
            readable[place] = writer.write(index, rgb[place]) >= 0
    if not any(readable):
        raise Poison(Reason.NO_FRAMES, "not one of the frames chosen can be decoded")
    for place in range(len(indices)):
        if not readable[place]:
            source = max((at for at in range(place) if readable[at]), default=readable.index(True))
            rgb[place], readable[place] = rgb[source], True


@dataclass
class TrainingMedia:
    """The pixels of clips by name, from a folder or a tar, which is read member by member."""

    folder: Path
    shown: MediaSettings
    tower: TowerPixels
    crop_px: int
    decoder: str = "av"
    _shelf: MediaShelf = field(init=False)

    def __post_init__(self) -> None:
        self._shelf = MediaShelf(self.folder, _LIMITS.max_clip_bytes, key=f"data.{self.shown.media_type}_folder")
        self._shelf.open()

    def pixels(self, name: str) -> NDArray[np.float32]:
        """Return a clip as ``float32[F, 3, crop_px, crop_px]``.

        Raises:
            Poison: the clip can't be read, whenever it is tried again.
            Transient: the clip can't be read now.
        """
        with closing(self._shelf.media(name)) as media:
            frames = read_frames(media, self.shown, self.decoder)
        if self.shown.legacy_bgr:
            frames = frames[..., ::-1]
        return pixel_values(frames, self.tower, self.crop_px, self.shown.image_aspect_ratio)

    def close(self) -> None:
        """Close the archive."""
        self._shelf.close()
