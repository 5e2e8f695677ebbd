"""Two hundred uploads by common tools, with pauses of up to 30 s and clocks ten minutes off: none early, none lost."""

from pathlib import Path

import pytest

from testing.uploads import TOOLS, Simulation, VirtualClock


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1, 2])
def test_no_upload_is_taken_early_and_none_is_lost(tmp_path: Path, seed: int) -> None:
    figures = Simulation(tmp_path, VirtualClock(), uploads=200, seed=seed).run()

    assert (figures.early, figures.broken, figures.lost) == ([], [], 0)
    assert len(figures.taken) == figures.uploads
    assert {name[5:-4] for name in figures.taken} == {tool.title for tool in TOOLS}
    assert max(figures.waited_s) < 2 * 2.0 + 2


def test_the_simulation_finds_what_is_taken_early(tmp_path: Path) -> None:
    figures = Simulation(tmp_path, VirtualClock(), uploads=2 * len(TOOLS), seed=1, unfinished=()).run()

    assert figures.early
    assert figures.broken
