"""Windows that end where the picture cuts, through the real sampler and its caged decoders."""

import asyncio
import json
import os
import signal
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from connectors.errors import Reason, Transient
from daemon import __main__ as command_line
from daemon.content.shots import shot_detector
from daemon.decoding.protocol import Shots
from daemon.decoding.sampler import Sampler
from daemon.decoding.shot_search import find_windows
from daemon.windows import NS_PER_S, FramePolicy, FrameSet, ShotPolicy, WindowPolicy
from testing.spliced_clips import ENCODINGS, RATE, Spliced, splice
from tests.corpus.sampling import clip_of, running, sample

pytestmark = pytest.mark.slow  # it starts decoders

pytest.importorskip("scenedetect")

SHOTS = WindowPolicy(4 * NS_PER_S, 4 * NS_PER_S, 0, shots=ShotPolicy(NS_PER_S, 0.5, shot_detector()))
TWO = FramePolicy(num_frames=2)
Span = tuple[int, int]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Spliced:
    """Shots of which some give way by a cut and some by a fade, with a key frame a second."""
    return splice(tmp_path_factory.mktemp("clips") / "clip.mp4", 7, shots=4, options=ENCODINGS[1])


async def spans_of(sampler: Sampler, path: Path, first_window: int = 0) -> list[Span]:
    outcome = await sample(sampler, path, SHOTS, TWO, first_window)
    assert outcome.fault is None
    assert all(isinstance(window, FrameSet) for window in outcome.windows)
    return [(one.window.start_ns, one.window.exclusive_end_ns) for one in outcome.windows]


async def test_windows_end_at_cuts_and_at_fades(clip: Spliced) -> None:
    async with running() as sampler:
        spans = await spans_of(sampler, clip.path)

    ends = [end * RATE // NS_PER_S for _, end in spans]
    met = [any(transition.is_met_by(end) for end in ends) for transition in clip.transitions]
    assert met == [True] * 3
    assert spans[-1][1] == clip.frames * NS_PER_S // RATE


async def test_a_clip_goes_on_at_any_window_with_the_same_spans(clip: Spliced) -> None:
    async with running() as sampler:
        spans = await spans_of(sampler, clip.path)
        later = await spans_of(sampler, clip.path, 2)

    assert later == spans[2:]


async def test_a_decoder_that_dies_leaves_the_spans_as_they_were(clip: Spliced) -> None:
    async with running() as sampler:
        spans = await spans_of(sampler, clip.path)
        plan = await sampler.plan(clip_of(clip.path), SHOTS, TWO)
        await sampler.reach(plan, 1)
        assert plan.session.opened_in is not None
        os.kill(plan.session.opened_in.pid or 0, signal.SIGKILL)
        with suppress(Transient):  # unless its end is seen before it is asked
            await sampler.reach(plan)
        await sampler.reach(plan)
        found = [plan.windows.span(index) for index in range(len(plan.windows))]
        plan.close()

    assert found == spans


async def test_the_first_window_does_not_wait_for_the_whole_clip(tmp_path: Path) -> None:
    still = splice(tmp_path / "still.mp4", 3, shots=1, options={"g": str(RATE)})
    many = tmp_path / "many.mp4"
    listed = tmp_path / "list"
    listed.write_text(f"file {still.path}\n" * 12)
    joined = await asyncio.create_subprocess_exec(
        *("ffmpeg", "-loglevel", "error", "-f", "concat", "-safe", "0", "-i", listed, "-c", "copy", many)
    )
    assert await joined.wait() == 0

    async with running() as sampler:
        plan = await sampler.plan(clip_of(many), SHOTS, TWO)
        async with aclosing(sampler.frame_sets(plan)) as sets:
            window = await anext(sets)
            assert isinstance(window, FrameSet)
            looked, frames = plan.shots_looked, len(plan.pts_ns)
            sampler.release(window)
        plan.close()

    assert 0 < looked < frames // 2


async def test_answers_that_make_no_sense_end_the_decoder(clip: Spliced, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [Shots((), 0), Shots((), 10**6), Shots((5, 5), 50), Shots((60,), 50), Shots((7, 6), 50)]
    async with running() as sampler:
        plan = await sampler.plan(clip_of(clip.path), SHOTS, TWO)
        for answer in wrong:

            async def lie(*_: object, said: Shots = answer) -> tuple[Shots, bytes]:
                return said, b""

            monkeypatch.setattr(sampler.pool, "ask", lie)
            with pytest.raises(Transient) as raised:
                await find_windows(sampler.pool, plan, None, 5.0)
            assert raised.value.reason == Reason.DECODER_DIED
        plan.close()

    assert plan.shots_looked == 0


async def test_children_without_shots_do_not_load_the_detector(clip: Spliced) -> None:
    async with running() as sampler:
        await sample(sampler, clip.path)
        (without,) = sampler.pool.pids
        await spans_of(sampler, clip.path)
        has_it = {pid: "_elementtree" in Path(f"/proc/{pid}/maps").read_text() for pid in sampler.pool.pids}

    assert has_it.pop(without) is False  # a library that PySceneDetect brings
    assert list(has_it.values()) == [True]


def test_plan_lists_the_shots(
    clip: Spliced, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = ("engine.kind=fake", "windows.policy=shots", "windows.min_s=1", "windows.max_s=4")
    arguments = ["captiond", "plan", str(clip.path), "--format", "json"]
    monkeypatch.setattr("sys.argv", arguments + [part for key in keys for part in ("--set", key)])
    with pytest.raises(SystemExit) as ended:
        command_line.main()

    windows = json.loads(capsys.readouterr().out)["windows"]
    assert ended.value.code in (0, None)
    assert [one["index"] for one in windows] == list(range(len(windows)))
    assert windows[0]["exclusive_end_ns"] < windows[-1]["exclusive_end_ns"] == clip.frames * NS_PER_S // RATE
