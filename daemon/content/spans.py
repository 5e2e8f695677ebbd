"""The rules for windows: how a clip is divided, which of them show nothing new, and spans that its length decides."""

from dataclasses import dataclass, field, fields

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ShotPolicy:
    """Windows that end where the picture cuts, none shorter than ``min_ns`` but in a clip that is shorter itself.

    ``sensitivity`` is from 0 to 1. ``detector`` names what looks for cuts: another version may find others.
    """

    min_ns: int
    sensitivity: float
    detector: str

    def __post_init__(self) -> None:
        if self.min_ns <= 0 or not 0 <= self.sensitivity <= 1:
            raise ValueError(f"no shots can be found with {self}")


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """The rule by which a clip is divided: ``whole``, windows of ``window_ns`` every ``stride_ns``, or ``shots``.

    A tail shorter than ``min_tail_ns`` is merged into the window before it. Windows that follow ``shots`` are at most
    ``window_ns`` long.

    Plan hashes are made of the text of a policy, so a field that came later stands in it only where it says something.
    """

    window_ns: int = 10 * NS_PER_S
    stride_ns: int = 10 * NS_PER_S
    min_tail_ns: int = 5 * NS_PER_S
    whole: bool = False
    shots: ShotPolicy | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.whole and (self.window_ns <= 0 or self.stride_ns <= 0 or self.min_tail_ns < 0):
            raise ValueError(f"no windows can be cut with {self}")
        if self.shots is not None and (self.whole or self.window_ns < 2 * self.shots.min_ns):
            raise ValueError(f"shots of {self.shots.min_ns} ns or more can't be cut with {self}")

    def __repr__(self) -> str:
        said = ((f, getattr(self, f.name)) for f in fields(self))
        return f"WindowPolicy({', '.join(f'{f.name}={value!r}' for f, value in said if f.repr or value != f.default)})"


@dataclass(frozen=True, slots=True)
class UnchangedPolicy:
    """How far the picture may differ from the described one, of 255 steps of grey, and how old that may be."""

    threshold: float
    max_age_ns: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The half-open spans of a clip: ``count`` of them, one every ``stride_ns``, the last up to ``end_ns``."""

    count: int
    window_ns: int
    stride_ns: int
    end_ns: int

    @classmethod
    def of(cls, duration_ns: int, policy: WindowPolicy) -> "Cut":
        """Cut a clip of this duration."""
        if duration_ns <= 0:
            raise ValueError(f"a clip of {duration_ns} ns has no windows")
        if policy.whole:
            return cls(1, duration_ns, duration_ns, duration_ns)
        # an overlapping window that starts after another has reached the end would show nothing new
        to_the_end = 1 + -(-max(duration_ns - policy.window_ns, 0) // policy.stride_ns)
        count = min(to_the_end, -(-duration_ns // policy.stride_ns))
        start_ns = (count - 1) * policy.stride_ns
        end_ns = min(start_ns + policy.window_ns, duration_ns)
        if count > 1 and end_ns - start_ns < min(policy.min_tail_ns, policy.window_ns):
            count -= 1
        return cls(count, policy.window_ns, policy.stride_ns, end_ns)

    @property
    def longest_ns(self) -> int:
        """The length of the longest span: the last may be longer than the others."""
        return max(end_ns - start_ns for start_ns, end_ns in (self.span(0), self.span(self.count - 1)))

    def span(self, index: int) -> tuple[int, int]:
        """Return the span of window ``index``."""
        start_ns = index * self.stride_ns
        return start_ns, self.end_ns if index == self.count - 1 else start_ns + self.window_ns


@dataclass(frozen=True, slots=True)
class OneSpan:
    """The one window of a clip that is a part of something longer. Frames outside of it are never shown."""

    start_ns: int
    end_ns: int
    count: int = 1

    @property
    def longest_ns(self) -> int:
        """The length of the span."""
        return self.end_ns - self.start_ns

    def span(self, index: int) -> tuple[int, int]:
        """Return the span of window ``index``, which is 0."""
        return self.start_ns, self.end_ns
