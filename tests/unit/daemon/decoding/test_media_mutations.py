"""Seeded damage, a few hundred clips of it: each gives frames or a named reason, and no decoder is at a loss."""

import asyncio
from pathlib import Path

import pytest

from connectors.errors import Poison, Reason
from tests.corpus.mutations import SOUND, cuts, mutant, originals
from tests.corpus.sampling import Outcome, running, sample

SEEDS = range(1000, 1012)


async def outcomes(folder: Path, clips: list[bytes]) -> list[Outcome]:
    paths = [folder / f"clip{k}" for k in range(len(clips))]
    for path, data in zip(paths, clips, strict=True):
        path.write_bytes(data)
    async with running(decoders=2, decoder_memory_bytes=2**30) as sampler:
        return list(await asyncio.gather(*(sample(sampler, path) for path in paths)))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return originals(tmp_path_factory.mktemp("sound"))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SOUND)
async def test_damage_is_a_named_reason_or_frames(name: str, sound: dict[str, bytes], tmp_path: Path) -> None:
    for outcome in await outcomes(tmp_path, [mutant(sound[name], seed) for seed in SEEDS]):
        assert outcome.fault is None or isinstance(outcome.fault, Poison)
        assert outcome.fault is None or outcome.reason in set(Reason)
        assert outcome.fault is not None or outcome.windows


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["faststart", "mkv", "avi"])
async def test_any_cut_is_a_named_reason(name: str, sound: dict[str, bytes], tmp_path: Path) -> None:
    for outcome in await outcomes(tmp_path, list(cuts(sound[name]))):
        if outcome.fault is None:  # cut behind the last frame
            assert outcome.plan is not None
            assert len(outcome.plan.pts_ns) == 50
            continue
        assert outcome.reason in (Reason.TRUNCATED, Reason.NOT_A_VIDEO)
