"""Several questions about one clip: its frames are read once, and given back when the last of them is done."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from connectors.contract import Clip
from connectors.errors import Poison, Reason, Transient
from daemon.config.settings import LimitsSettings, TimeoutsSettings
from daemon.decoding.sampler import Sampler
from daemon.windows import FramePolicy, FrameSet, WindowPolicy
from neva.evaluate.shared_sampler import SharedSampler
from tests.corpus.clips import READABLE, Truth, make
from tests.corpus.sampling import PathMedia

pytestmark = pytest.mark.slow  # it starts decoders

WHOLE, FRAMES = WindowPolicy(whole=True), FramePolicy(num_frames=4)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return make(tmp_path_factory.mktemp("clips") / "one", READABLE["h264"])


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the clips that are really read, as they are."""
    read, plan = list[str](), Sampler.plan

    async def noted(self: Sampler, clip: Clip, *policies: object) -> object:
        read.append(clip.attributes["media"])
        return await plan(self, clip, *policies)  # type: ignore[arg-type]

    monkeypatch.setattr(Sampler, "plan", noted)
    return read


@asynccontextmanager
async def sampler_for(questions: dict[str, int], **limits: int) -> AsyncIterator[SharedSampler]:
    settings = LimitsSettings(**{"decoders": 1, "decoder_memory_bytes": 2**31, **limits})
    sampler = SharedSampler(settings, TimeoutsSettings(), questions=questions)
    await sampler.start()
    try:
        yield sampler
    finally:
        await sampler.close()


def question(path: Path, number: int = 0) -> Clip:
    return Clip(f"{path.name}/{number}", "prompts", PathMedia(path), 0, {"media": path.name})


async def ask(sampler: SharedSampler, clip: Clip) -> FrameSet:
    """Take a clip's frames as the main loop does; the caller gives them back."""
    plan = await sampler.plan(clip, WHOLE, FRAMES)
    async with aclosing(sampler.frame_sets(plan)) as windows:
        (shown,) = [window async for window in windows]
    plan.close()
    assert isinstance(shown, FrameSet)
    return shown


async def test_questions_at_once_share_one_reading(truth: Truth, plans: list[str]) -> None:
    async with sampler_for({truth.path.name: 3}) as sampler:
        shown = await asyncio.gather(*(ask(sampler, question(truth.path, n)) for n in range(3)))
        for one in shown:
            assert sampler.budget.held_bytes > 0
            sampler.release(one)

        assert plans == [truth.path.name]
        assert shown[0] is shown[1] is shown[2]
        assert sampler.budget.held_bytes == 0


async def test_one_question_after_the_other_shares_it_too(truth: Truth, plans: list[str]) -> None:
    async with sampler_for({truth.path.name: 2}) as sampler:
        for number in range(2):
            sampler.release(await ask(sampler, question(truth.path, number)))

        assert plans == [truth.path.name]
        assert sampler.budget.held_bytes == 0


async def test_one_more_than_was_said_is_read_again(truth: Truth, plans: list[str]) -> None:
    async with sampler_for({truth.path.name: 1}) as sampler:
        first, second = await ask(sampler, question(truth.path)), await ask(sampler, question(truth.path, 1))
        sampler.release(first)
        assert sampler.budget.held_bytes > 0
        sampler.release(second)
        sampler.release(await ask(sampler, question(truth.path, 2)))

        assert plans == [truth.path.name] * 2
        assert sampler.budget.held_bytes == 0


async def test_frames_that_one_holds_are_not_given_back_by_another(truth: Truth) -> None:
    async with sampler_for({truth.path.name: 2}) as sampler:
        plan = await sampler.plan(question(truth.path), WHOLE, FRAMES)  # waits for a slot in the engine
        sampler.release(await ask(sampler, question(truth.path, 1)))
        sampler.release(await ask(sampler, question(truth.path, 2)))  # tried again: one more than was said
        assert sampler.budget.held_bytes > 0
        async for window in sampler.frame_sets(plan):
            assert isinstance(window, FrameSet)
            sampler.release(window)

        assert sampler.budget.held_bytes == 0


async def test_a_clip_that_cant_be_read_is_refused_to_each_question(tmp_path: Path, plans: list[str]) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video\n" * 99)
    async with sampler_for({"broken.mp4": 2}) as sampler:
        for number in range(2):
            with pytest.raises(Poison) as refused:
                await ask(sampler, question(broken, number))
            assert refused.value.reason == Reason.NOT_A_VIDEO

        assert plans == ["broken.mp4"] * 2
        assert sampler.budget.held_bytes == 0


async def test_a_decoder_that_died_is_no_memory(
    truth: Truth, plans: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    died = Sampler.frame_sets

    async def fails_once(self: Sampler, *given: object) -> AsyncIterator[object]:
        monkeypatch.setattr(Sampler, "frame_sets", died)
        raise Transient("the decoder died", reason=Reason.DECODER_DIED)
        yield

    monkeypatch.setattr(Sampler, "frame_sets", fails_once)
    async with sampler_for({truth.path.name: 1}) as sampler:
        with pytest.raises(Transient):
            await ask(sampler, question(truth.path))
        sampler.release(await ask(sampler, question(truth.path)))

        assert plans == [truth.path.name] * 2
        assert sampler.budget.held_bytes == 0


async def test_pixels_go_when_the_last_question_lets_them_go(truth: Truth) -> None:
    async with sampler_for({truth.path.name: 2}) as sampler:
        first, second = [await ask(sampler, question(truth.path, number)) for number in range(2)]
        before = first.frames.copy()

        sampler.release(first, let_go=True)
        assert (second.frames == before).all()

        sampler.release(second, let_go=True)
        assert second.frames.strides == (0, 0, 0, 0)
        assert sampler.budget.held_bytes == 0
