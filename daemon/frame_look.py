"""The size and the look of the frames that a model gets, whichever they are."""

from dataclasses import dataclass

ON_DEVICE = "av-device"  # the name of the decoder that is PyAV, with the graphics card where that can


@dataclass(frozen=True, slots=True)
class MaxFrameSize:
    """The largest frame that a model has a use for; larger ones are scaled down, and none is ever enlarged."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"no frame is as small as {self}")


@dataclass(frozen=True, slots=True)
class Look:
    """The look of frames: the colour behind transparent pixels, and whether HDR is shown as SDR."""

    background: tuple[int, int, int] = (255, 255, 255)
    tone_map: bool = True
