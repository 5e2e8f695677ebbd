"""The windows before: what the model said of them, as the question about the next one is told."""

from collections import deque
from collections.abc import Iterable, Sequence

from connectors.contract import Caption, CaptionStatus

_TOLD = (CaptionStatus.SUCCESS, CaptionStatus.TRUNCATED, CaptionStatus.UNCHANGED)  # what is worth telling


class WindowsBefore:
    """The captions of the latest windows of a clip, those of ``windows`` at most, by question."""

    def __init__(self, windows: int, captions: Iterable[Caption] = ()) -> None:
        self._windows = windows
        self._captions: deque[Caption] = deque()
        self.add(captions)

    def add(self, captions: Iterable[Caption]) -> None:
        """Take the captions of windows that come next."""
        if not self._windows:
            return
        for caption in captions:
            self._captions.append(caption)
            while self._captions[0].window.index <= caption.window.index - self._windows:
                self._captions.popleft()

    def of(self, prompt: str | None, windows: int) -> Sequence[Caption]:
        """Return what a question is told: the captions of so many windows that say something, the oldest first."""
        mine = [caption for caption in self._captions if caption.prompt == prompt]
        last = self._captions[-1].window.index if self._captions else 0
        return [one for one in mine if one.status in _TOLD and one.text and one.window.index > last - windows]

    def copy(self) -> "WindowsBefore":
        """Return the same, to go on from there."""
        return WindowsBefore(self._windows, self._captions)
