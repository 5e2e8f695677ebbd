"""The spans of a clip that end where its shots do, known as far as the clip has been looked through.

Each span is decided by what lies within twice the longest window behind its start, so the first is there long before a
film has been looked through; and by nothing else, so the spans are the same whenever and in however many steps the cuts
were found.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from connectors.errors import ConfigurationError
from daemon.content.spans import ShotPolicy, WindowPolicy

_DETECTOR = "scenedetect"
_PACKAGES = (_DETECTOR + "-headless", _DETECTOR)  # one library under two names, by the build of OpenCV that it asks for


def shot_detector() -> str:
    """Return what looks for cuts, with its version; :class:`ConfigurationError` where it is not installed."""
    for package in _PACKAGES:
        try:
            return f"PySceneDetect {version(package)}"
        except PackageNotFoundError:
            continue
    raise ConfigurationError(f"shots needs the package {_PACKAGES[0]}, which is not installed", path="windows.policy")


@dataclass(slots=True, eq=False)
class ShotSpans:
    """The half-open spans of a clip of ``duration_ns``, at most ``max_ns`` long, and as short as ``policy`` says.

    A span ends at the first cut that leaves it and the clip's rest long enough: shorter shots are joined to what
    follows, a short last one to what is before. A shot longer than ``max_ns`` and at most twice as long is cut into two
    equal spans, and of a longer one spans of ``max_ns`` are cut until it is. Where the clip ``ends_early`` the span
    that its end would close is left out: more bytes could change it.
    """

    duration_ns: int
    policy: ShotPolicy
    max_ns: int
    ends_early: bool = False
    is_complete: bool = False
    looked_ns: int = 0  # every cut before this time is known
    cuts_ns: list[int] = field(default_factory=list, repr=False)  # the times of those
    _ends_ns: list[int] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, duration_ns: int, policy: WindowPolicy) -> "ShotSpans":
        """Return the spans of a clip of which nothing has been looked at."""
        if policy.shots is None or duration_ns <= 0:
            raise ValueError(f"a clip of {duration_ns} ns has no shots by {policy}")
        return cls(duration_ns, policy.shots, policy.window_ns)

    @property
    def count(self) -> int:
        """The number of spans that are known."""
        return len(self._ends_ns)

    @property
    def longest_ns(self) -> int:
        """The most that a span may be long."""
        return min(self.max_ns, self.duration_ns)

    @property
    def needed_ns(self) -> int:
        """The time up to which the clip must be looked through for the next span, at most."""
        return min(self._start_ns + 2 * self.max_ns, self.duration_ns)

    @property
    def _start_ns(self) -> int:
        return self._ends_ns[-1] if self._ends_ns else 0

    def span(self, index: int) -> tuple[int, int]:
        """Return span ``index``."""
        return (self._ends_ns[index - 1] if index else 0), self._ends_ns[index]

    def add(self, cuts_ns: Sequence[int], looked_ns: int) -> None:
        """Take the cuts up to ``looked_ns`` that were not known yet, in order."""
        self.cuts_ns.extend(cuts_ns)
        self.looked_ns = looked_ns
        while not self.is_complete and self._add_next():
            pass

    def _add_next(self) -> bool:
        """Add the next span, or the two halves of one; False where that takes a look further on."""
        start_ns, latest_ns = self._start_ns, self.duration_ns - self.policy.min_ns
        at = bisect_left(self.cuts_ns, start_ns + self.policy.min_ns)
        end_ns = self.cuts_ns[at] if at < len(self.cuts_ns) else self.duration_ns
        reach_ns = start_ns + 2 * self.max_ns
        if end_ns > min(latest_ns, reach_ns):
            if self.looked_ns <= min(reach_ns, self.duration_ns - 1):
                return False
            if self.ends_early and end_ns <= reach_ns:  # more bytes may make a cut count
                self.is_complete = True
                return True
            if reach_ns < self.duration_ns:
                self._ends_ns.append(start_ns + self.max_ns)
                return True
            self.is_complete, end_ns = True, self.duration_ns
        if end_ns - start_ns > self.max_ns:
            self._ends_ns.append((start_ns + end_ns) // 2)
        self._ends_ns.append(end_ns)
        return True
