"""Every input from the field whose trouble is time, container or truncation, through the real decoder in its cage."""

from dataclasses import asdict

import pytest

from tests.corpus.sampling import running
from tests.field.expected import CONTAINERS, TIME, Right
from tests.field.reading import INPUTS, read_all

RIGHT = TIME | CONTAINERS
pytestmark = pytest.mark.timeout(120)


def test_every_input_has_a_right_value() -> None:
    mine = {path.name for path in INPUTS.iterdir() if path.name[0] in "abd"}

    assert mine == set(RIGHT)


@pytest.mark.parametrize(("name", "right"), sorted(RIGHT.items()), ids=sorted(RIGHT))
async def test_frames_and_their_times(name: str, right: Right) -> None:
    async with running() as sampler:
        found = await read_all(sampler, INPUTS / name)

    assert found.reason == right.reason, found.detail
    assert right.detail in found.detail
    assert found.numbers == right.numbers
    assert found.times_ms == list(right.times_ms)
    assert found.duration_ms == right.duration_ms
    if found.outcome.plan is not None:
        mended = {kind for kind, value in asdict(found.outcome.plan.mended).items() if value}
        assert mended == set(right.mended)
        assert round(found.outcome.plan.media_start_ns / 1e6) == right.media_start_ms


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(RIGHT))
async def test_decord_gives_the_same_frames_or_is_refused_by_name(name: str) -> None:
    async with running() as sampler:
        found = await read_all(sampler, INPUTS / name, decoder="decord")
        ours = await read_all(sampler, INPUTS / name)

    theirs = dict(zip(found.times_ns, found.numbers, strict=True))
    assert theirs.items() <= dict(zip(ours.times_ns, ours.numbers, strict=True)).items()
    if theirs.keys() != set(ours.times_ns):
        assert found.reason == "unsupported_codec"
        assert "frames.decoder" in found.detail
