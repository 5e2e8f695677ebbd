"""A small part of the comparison with ffprobe; ``python -m tests.field.against_ffprobe`` runs all of it."""

from pathlib import Path

import pytest

from tests.corpus.sampling import running
from tests.field.against_ffprobe import KINDS, VARIANTS, compare

FEW = ("mpeg4.avi", "mpeg2video.ts", "libx264.mp4", "libx264.mkv")
pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("variant", ["b_frames", "uneven", "cut", "half", "joined"])
@pytest.mark.parametrize("name", FEW)
async def test_frames_and_times_are_ffprobes(name: str, variant: str, tmp_path: Path) -> None:
    kind = next(kind for kind in KINDS if kind.name == name)

    async with running() as sampler:
        verdict, word = await compare(sampler, tmp_path, kind, variant)

    assert verdict != "wrong", word


def test_every_kind_has_ten_variants() -> None:
    assert len(VARIANTS) == 10
