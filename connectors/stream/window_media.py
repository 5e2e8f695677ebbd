"""The parts of a window's clip: its media, where the window lies in them, and why there is nothing to ask about."""

from collections.abc import Callable

from connectors.contract import CaptionStatus, Missing, Unasked
from connectors.errors import Poison, Reason
from connectors.media.protocols import Media
from connectors.stream.recording import RecordedWindow

_WHY_NOTHING = {
    "away": "the stream was away",
    "silent": "the stream was connected, and nothing came",
    "discarded": "it was thrown away unread, as the recording had reached max_disk",
    "not_recording": "nothing was recorded while the program was down",
    "format_changed": "the stream changed its format",
}
_BEHIND = "captioning was behind by more than lag_s, and on_lag is skip"
SKIPPED = Unasked(CaptionStatus.SKIPPED, "behind", _BEHIND)


class WindowMedia:
    """What was recorded of a window, under its name; ``on_close`` is told once it is no longer used.

    ``media`` is None where nothing was recorded.
    """

    def __init__(self, name: str, media: Media | None, on_close: Callable[[int], None]) -> None:
        self.name, self._media, self._on_close = name, media, on_close
        self.size_bytes = 0 if media is None else media.size_bytes
        self._is_closed = False

    def open(self) -> int:
        """Return a new read-only descriptor."""
        if self._media is None:
            raise Poison(Reason.VANISHED, "nothing of the window was recorded", origin="source")
        return self._media.open()

    def close(self) -> None:
        """Let go of the media. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._media is not None:
            self._media.close()
        self._on_close(self.size_bytes)


def gap(missing: tuple[Missing, ...]) -> Unasked:
    """Return how a window ends of which nothing was recorded: with the reason that most of it is missing for."""
    longest = max(missing, key=lambda one: one.exclusive_end_ns - one.start_ns, default=None)
    reason = "silent" if longest is None else longest.reason
    return Unasked(CaptionStatus.GAP, reason, _WHY_NOTHING.get(reason, "nothing was recorded"))


def span_in_media(recorded: RecordedWindow) -> tuple[int, int] | None:
    """Return the window in its media; where the media begins later, what there is of it."""
    if recorded.span_ns is None:
        return None
    start_ns, end_ns = recorded.span_ns
    start_ns = max(0, start_ns)
    return start_ns, max(end_ns, start_ns + 1)
