"""Drawn clips: what is said of them is what OpenCV measures in them, and turning a clip turns what is said."""

from collections import Counter

import numpy as np
import pytest

from neva.scenery.camera import draw_path
from neva.scenery.compose import NOTHING_BELOW, SceneClip, draw_clip, draw_movers
from neva.scenery.dataset import add_specks, load_or_make
from neva.scenery.light import measure
from neva.scenery.measured import Truth, measure_window
from neva.scenery.photographs import Photograph, draw_texture
from neva.scenery.statements import CAMERAS, Statements
from tests.unit.neva.scenery.stored_clips import stored as as_stored


@pytest.fixture(scope="module")
def pictures() -> list[Photograph]:
    return [draw_texture(np.random.default_rng(n)) for n in range(6)]


@pytest.fixture(scope="module")
def clips(pictures: list[Photograph]) -> list[SceneClip]:
    return [draw_clip(np.random.default_rng([7, n]), pictures) for n in range(160)]


@pytest.fixture(scope="module")
def truths(clips: list[SceneClip]) -> list[Truth]:
    return [measured(clip) for clip in clips]


def measured(clip: SceneClip) -> Truth:
    return measure_window(list(clip.frames), list(range(len(clip.frames))))


def test_the_same_seed_is_the_same_clip(pictures: list[Photograph]) -> None:
    one, two = (draw_clip(np.random.default_rng([7, 3]), pictures) for _ in range(2))

    assert (one.frames == two.frames).all()
    assert one.statements == two.statements


def test_every_kind_of_clip_is_drawn(clips: list[SceneClip]) -> None:
    said = [clip.statements for clip in clips]

    assert {one.camera for one in said} == set(CAMERAS)
    assert {one.transition for one in said} == {"none", "cut", "fade in", "fade out"}
    assert any(one.black for one in said)


def test_light_and_colours_are_those_of_the_frames(clips: list[SceneClip]) -> None:
    for clip in clips:
        if not clip.statements.black:
            seen = measure(clip.frames)
            assert (clip.statements.light, clip.statements.colours) == (seen.light, seen.colours)


@pytest.mark.slow
def test_what_is_said_is_what_optical_flow_measures(clips: list[SceneClip], truths: list[Truth]) -> None:
    """Flow at this size is lost now and then; where it is sure of a camera or a transition, it agrees."""
    agreed: Counter[str] = Counter()
    sure: Counter[str] = Counter()
    for clip, truth in zip(clips, truths, strict=True):
        said = clip.statements
        if said.black or truth.black:
            assert said.black == truth.black
        elif said.transition == "none" and truth.camera is not None and said.movement != "much":
            sure["camera"] += 1
            agreed["camera"] += truth.camera == said.camera
        elif said.transition in {"fade in", "fade out"}:
            sure["fade"] += 1
            agreed["fade"] += truth.transition == said.transition

    assert sure["camera"] >= 30
    assert agreed["camera"] >= 0.9 * sure["camera"], (agreed, sure)
    assert agreed["fade"] >= 0.7 * sure["fade"], (agreed, sure)


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_path_goes_where_its_name_says(camera: str) -> None:
    signs = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}
    for seed in range(40):
        path = draw_path(np.random.default_rng(seed), camera, 8)
        net, ratio = path.places[-1] - path.places[0], path.sides[-1] / path.sides[0]
        if camera in signs:
            axis, sign = signs[camera]
            assert net[axis] * sign >= 0.11
            assert abs(net[axis]) > 2 * abs(net[1 - axis])
        elif camera in {"in", "out"}:
            assert (ratio < 1 / 1.2) if camera == "in" else (ratio > 1.2)
        else:
            assert ratio == 1
            assert np.abs(net).max() < (0.01 if camera == "still" else 0.15)


@pytest.mark.slow
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_turning_a_clip_turns_what_is_said_of_it(clips: list[SceneClip], truths: list[Truth], axis: int) -> None:
    stored = as_stored(clips[:60])
    for i in range(len(stored)):
        stored.turn(i, axis)
        after = measure_window(list(stored.frames[i]), list(range(8)))
        said = stored.statements(i)
        if truths[i].camera == clips[i].statements.camera and after.camera is not None:
            assert said.camera == after.camera


def test_turning_twice_is_not_turning(clips: list[SceneClip]) -> None:
    stored, turned = as_stored(clips[:40]), as_stored(clips[:40])
    for i in range(len(turned)):
        for axis in (0, 1, 2):
            turned.turn(i, axis)
            turned.turn(i, axis)

    for name in ("frames", "labels", "motion", "flow"):
        assert (getattr(stored, name) == getattr(turned, name)).all()


def test_augmented_clips_say_what_is_true_of_their_frames(clips: list[SceneClip]) -> None:
    stored = as_stored(clips[:40])

    turned = stored.augmented(np.arange(40).repeat(3), np.random.default_rng(0))

    for i in range(len(turned)):
        said = turned.statements(i)
        if not said.black:
            seen = measure(turned.frames[i])
            assert (said.light, said.colours) == (seen.light, seen.colours)
    assert stored.statements(5) == clips[5].statements


def test_specks_move_and_count_as_nothing(pictures: list[Photograph]) -> None:
    rng, moved = np.random.default_rng(3), []
    still = next(
        clip
        for clip in (draw_clip(np.random.default_rng([8, n]), pictures) for n in range(400))
        if (clip.statements.camera, clip.statements.movement, clip.statements.transition)
        == ("still", "nothing", "none")
    )
    for _ in range(30):
        frames = still.frames.copy()
        add_specks(frames, rng)
        moved.append((np.abs(frames.astype(int) - still.frames).max(axis=-1) > 20).mean())

    assert 0 < max(moved) < NOTHING_BELOW


def test_what_moves_is_at_times_many_small_things_near_each_other(pictures: list[Photograph]) -> None:
    rng = np.random.default_rng(4)
    path = draw_path(rng, "still", 8)
    crowds = [found for _ in range(60) if len(found := draw_movers(rng, pictures, path, "something")) > 3]

    assert 10 < len(crowds) < 40
    for crowd in crowds:
        middles = np.stack([mover.places.mean(axis=0) for mover in crowd])
        assert max(mover.sizes.max() for mover in crowd) < 0.36
        assert np.abs(middles - np.median(middles, axis=0)).mean() < 0.4


def test_black_is_said_of_a_black_clip_only() -> None:
    assert measure_window([np.zeros((64, 64, 3), np.uint8)] * 8, list(range(8))) == Truth("none", True, None, None)
    assert Statements(black=True).sentence() == "A black picture."


def test_clips_are_made_once(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    made = load_or_make(folder / "clips.npz", folder, 3, 8, 1, held_out=True)
    monkeypatch.setattr("neva.scenery.dataset.draw_texture", lambda rng: pytest.fail("made again"))

    again = load_or_make(folder / "clips.npz", folder, 3, 8, 1, held_out=True)

    assert (made.frames == again.frames).all()
    assert [again.statements(i) for i in range(3)] == [made.statements(i) for i in range(3)]
