"""Spans that end where shots do: their lengths, and that they are the same however far is looked at a time."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.errors import ConfigurationError
from daemon.config.settings import WindowsSettings
from daemon.content import shots as detection
from daemon.content.shots import ShotSpans
from daemon.content.spans import ShotPolicy, WindowPolicy

MIN, MAX = 20, 100
POLICY = WindowPolicy(MAX, MAX, 0, shots=ShotPolicy(MIN, 0.5, "a detector"))
CUTS = st.sets(st.integers(1, 999), max_size=40).map(sorted)


def spans(
    duration: int, cuts: list[int], *, step: int | None = None, ends_early: bool = False
) -> list[tuple[int, int]]:
    """Return every span, found by looking ``step`` further each time."""
    found = ShotSpans.of(duration, POLICY)
    found.ends_early = ends_early
    looked = 0
    while not found.is_complete:
        further = min(looked + (step or duration), duration)
        found.add([cut for cut in cuts if looked <= cut < further], further)
        looked = further
    return [found.span(index) for index in range(found.count)]


@pytest.mark.parametrize(
    ("duration", "cuts", "ends"),
    [
        (300, [50, 120, 215], [50, 120, 215, 300]),
        (90, [], [90]),
        (300, [50, 60, 130], [50, 130, 215, 300]),  # the shot from 50 to 60 is joined to the next
        (300, [90, 180, 290], [90, 180, 240, 300]),  # the last is joined to the one before, and both halved
        (180, [], [90, 180]),
        (450, [], [100, 200, 300, 375, 450]),
        (300, [150], [75, 150, 225, 300]),
        (15, [5], [15]),
    ],
)
def test_where_spans_end(duration: int, cuts: list[int], ends: list[int]) -> None:
    assert [end for _, end in spans(duration, cuts)] == ends


@given(st.integers(1, 1000), CUTS, st.integers(1, 50), st.booleans())
def test_spans_do_not_depend_on_how_far_is_looked_at_a_time(
    duration: int, cuts: list[int], step: int, ends_early: bool
) -> None:
    cuts = [cut for cut in cuts if cut < duration]

    whole = spans(duration, cuts, ends_early=ends_early)

    assert spans(duration, cuts, step=step, ends_early=ends_early) == whole


@given(st.integers(1, 1000), CUTS)
def test_spans_cover_the_clip_within_their_bounds(duration: int, cuts: list[int]) -> None:
    found = spans(duration, [cut for cut in cuts if cut < duration])

    assert found[0][0] == 0
    assert found[-1][1] == duration
    assert all(end == start for (_, end), (start, _) in pairwise(found))
    assert all(end - start <= MAX for start, end in found)
    assert all(end - start >= MIN for start, end in found) or len(found) == 1


@given(st.integers(1, 1000), CUTS, st.integers(1, 500))
def test_spans_of_a_clip_that_ends_early_are_those_that_more_bytes_would_not_change(
    duration: int, cuts: list[int], more: int
) -> None:
    whole = spans(duration + more, [cut for cut in cuts if cut < duration + more])

    early = spans(duration, [cut for cut in cuts if cut < duration], ends_early=True)

    if more >= MIN:  # else the clip's own end would have joined its last shot to the one before
        assert early == whole[: len(early)]


def test_a_span_is_there_before_the_clip_has_been_looked_through() -> None:
    found = ShotSpans.of(10**6, POLICY)

    found.add([], found.needed_ns + 1)

    assert found.span(0) == (0, MAX)
    assert found.needed_ns < 10**6


def test_plan_hashes_of_other_policies_are_what_they_were() -> None:
    assert repr(WindowPolicy(1, 2, 3)) == "WindowPolicy(window_ns=1, stride_ns=2, min_tail_ns=3, whole=False)"
    assert "shots=ShotPolicy(min_ns=20, sensitivity=0.5, detector='a detector')" in repr(POLICY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy": "shots", "window_s": 5},
        {"policy": "seconds", "min_s": 5},
        {"policy": "whole", "sensitivity": 0.3},
        {"policy": "shots", "min_s": 4, "max_s": 7},
        {"policy": "shots", "sensitivity": 1.5},
    ],
)
def test_contradictions_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"contradicts|twice min_s|less than or equal"):
        WindowsSettings.model_validate(wrong)


def test_the_version_of_the_detector_is_in_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "version", lambda name: "1.2.3")

    policy = WindowsSettings(policy="shots", min_s=1, max_s=8, sensitivity=0.25).to_policy()

    assert policy == WindowPolicy(8 * 10**9, 8 * 10**9, 0, shots=ShotPolicy(10**9, 0.25, "PySceneDetect 1.2.3"))


def test_shots_without_their_detector_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_missing(name: str) -> str:
        raise detection.PackageNotFoundError(name)

    monkeypatch.setattr(detection, "version", is_missing)

    with pytest.raises(ConfigurationError, match="scenedetect-headless"):
        WindowsSettings(policy="shots").to_policy()
