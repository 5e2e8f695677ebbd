"""torchcodec's own test resources, where ``TORCHCODEC_RESOURCES`` names the folder of them in a checkout."""

import os
from pathlib import Path

import pytest

from tests.corpus.sampling import running
from tests.field.against_torchcodec import faults, known_in

RESOURCES = os.environ.get("TORCHCODEC_RESOURCES", "")


@pytest.mark.skipif(not RESOURCES, reason="no checkout of torchcodec is named by TORCHCODEC_RESOURCES")
@pytest.mark.timeout(300)
async def test_times_and_frames_are_those_of_its_json() -> None:
    known = known_in(Path(RESOURCES))

    async with running() as sampler:
        found = {clip.name: await faults(sampler, clip, streams) for clip, streams in known.items()}

    assert known
    assert found == {clip.name: [] for clip in known}
