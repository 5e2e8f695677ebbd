"""The contract of whoever looks on while clips are captioned."""

from typing import Protocol

from connectors.contract import Clip, Progress
from daemon.windows import FrameSet


class Observer(Protocol):
    """Is told what happens. Both calls return at once and raise nothing."""

    def saw(self, clip: Clip, frames: FrameSet) -> None:
        """Look at the frames of a window before they are rendered; they are not kept."""
        ...

    def published(self, progress: Progress) -> None:
        """Take note of captions and a rejection that are durable."""
        ...


class Unobserved:
    """Nobody looks on."""

    def saw(self, clip: Clip, frames: FrameSet) -> None:
        """Look away."""

    def published(self, progress: Progress) -> None:
        """Take no note."""
