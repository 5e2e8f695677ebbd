"""Every frame of a clip through the real decoder child in its cage: the numbers painted on it, and their times."""

from dataclasses import dataclass
from pathlib import Path

from daemon.decoding.sampler import Sampler
from daemon.windows import NS_PER_S, FramePolicy, FrameSet, WindowPolicy
from tests.corpus.sampling import Outcome, sample
from tests.field.painted import number_of

INPUTS = Path(__file__).parent / "inputs"
SECOND = WindowPolicy(NS_PER_S, NS_PER_S, 0)  # a tail is a window too
EVERY_FRAME = FramePolicy(rule="neva", num_frames=64)  # of clips with no more frames a second


@dataclass(frozen=True)
class Reading:
    """What came out of a clip. A number of -1 is a frame that shows none, or one of a window that can't be read."""

    numbers: tuple[int, ...]
    times_ns: tuple[int, ...]
    duration_ns: int
    reason: str | None
    detail: str
    outcome: Outcome

    @property
    def times_ms(self) -> list[int]:
        """The times in milliseconds from the first frame."""
        return [round(time_ns / 1e6) for time_ns in self.times_ns]

    @property
    def duration_ms(self) -> int:
        """The clip's length in milliseconds, 0 where it could not be opened."""
        return round(self.duration_ns / 1e6)


async def read_all(
    sampler: Sampler, path: Path, decoder: str = "av", windows: WindowPolicy = SECOND, frames: FramePolicy = EVERY_FRAME
) -> Reading:
    """Read every frame of a clip, window by window."""
    outcome = await sample(sampler, path, windows, frames, decoder=decoder)
    shown: dict[int, int] = {}  # a window without a frame of its own shows the one on screen again
    for window in outcome.windows:
        if isinstance(window, FrameSet):
            shown |= {time: number_of(frame) for time, frame in zip(window.pts_ns, window.frames, strict=True)}
    plan = outcome.plan
    return Reading(
        tuple(shown.values()),
        tuple(shown),
        plan.duration_ns if plan is not None else 0,
        outcome.reason,
        outcome.fault.detail if outcome.fault is not None else "",
        outcome,
    )
