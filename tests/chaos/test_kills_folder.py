"""Row K1 in small: two kills at each of the twelve points, folder to folder."""

from pathlib import Path

import pytest

from tests.chaos.folder_rows import killed_at, killed_at_random, told_again_after
from tests.chaos.kill_points import POINTS

CLIPS = 24


@pytest.mark.thorough  # `make chaos-quick` strikes each point once
@pytest.mark.timeout(240)
@pytest.mark.parametrize("point", POINTS)
def test_every_window_is_captioned_exactly_once(point: str, tmp_path: Path) -> None:
    result = killed_at(point, 2, tmp_path / "load", CLIPS)

    assert result.wrong == []
    assert (result.lost, result.twice) == (0, 0)
    assert result.windows == CLIPS * 6


@pytest.mark.timeout(400)
def test_kills_while_the_machine_stays_up_cost_at_most_the_clip_that_was_alone(tmp_path: Path) -> None:
    result = killed_at_random(4, tmp_path / "load", CLIPS, machine_stays=True)

    assert result.wrong == []
    assert (result.lost, result.twice) == (0, 0)


@pytest.mark.thorough
@pytest.mark.timeout(240)
def test_killed_at_random(tmp_path: Path) -> None:
    result = killed_at_random(3, tmp_path / "load", CLIPS)

    assert result.wrong == []
    assert (result.lost, result.twice) == (0, 0)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("point", ["publish_in_flight", "after_publish"])
def test_every_question_about_a_window_is_answered_exactly_once(point: str, tmp_path: Path) -> None:
    result = killed_at(point, 2, tmp_path / "load", CLIPS, ("caption", "alert"))

    assert result.wrong == []
    assert (result.lost, result.twice) == (0, 0)
    assert result.windows == CLIPS * 6


@pytest.mark.timeout(240)
def test_what_a_question_is_told_and_its_ids_are_the_same_after_kills(tmp_path: Path) -> None:
    result = told_again_after(3, tmp_path / "load", 8)

    assert result.wrong == []
    assert (result.lost, result.twice) == (0, 0)
