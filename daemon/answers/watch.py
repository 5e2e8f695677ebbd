"""The watch over the share of captions that are not good, a source's and a question's."""

import logging
from collections import deque
from collections.abc import Iterable

from connectors.contract import Caption, CaptionStatus
from daemon.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_LAST = 100  # captions
_FEWEST = 20  # before them a share says nothing
_GOOD = (CaptionStatus.SUCCESS, CaptionStatus.UNCHANGED, CaptionStatus.ERROR)  # unread frames are no answer's fault


class QualityWatch:
    """Says once when the share of bad captions rises above the alarm, and once when it is below again."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._last: dict[tuple[str, str], deque[bool]] = {}
        self._alarmed: set[tuple[str, str]] = set()

    def look(self, source: str, captions: Iterable[Caption], alarm: float) -> None:
        """Take note of captions that were published."""
        for caption in captions:
            if caption.input is not None or caption.status in (CaptionStatus.GAP, CaptionStatus.SKIPPED):
                continue  # the model was not asked
            key = source, caption.prompt or ""
            last = self._last.setdefault(key, deque(maxlen=_LAST))
            last.append(caption.status not in _GOOD)
            self._compare(key, sum(last) / len(last), len(last), alarm)

    def _compare(self, key: tuple[str, str], share: float, count: int, alarm: float) -> None:
        source, prompt = key
        self._metrics.bad_captions.labels(source, prompt).set(share)
        asked = f"Source {source}" + (f", question {prompt}" if prompt else "")
        if share > alarm and count >= _FEWEST and key not in self._alarmed:
            self._alarmed.add(key)
            log.warning(
                "%s: %.0f %% of the last %d captions are not good, more than quality.alarm; captions_total says how.",
                asked,
                100 * share,
                count,
                extra={"source": source},
            )
        elif share <= alarm and key in self._alarmed:
            self._alarmed.discard(key)
            log.info("%s: %.0f %% of the last %d captions are not good, as few as may be.", asked, 100 * share, count)
