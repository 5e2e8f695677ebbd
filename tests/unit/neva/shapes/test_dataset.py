"""Shape clips as training data: augmentation changes frames and labels alike."""

import numpy as np

from neva.shapes.dataset import FLIPPED_SIDEWAYS, FLIPPED_UPSIDE_DOWN, REVERSED_IN_TIME, ShapeClips
from neva.shapes.scenes import (
    COLOURS,
    FRAME_PX,
    MOTIONS,
    SHAPES,
    Scene,
    draw_scene,
    random_scene,
)


def test_flips_turn_the_labels_with_the_pixels() -> None:
    scenes = [random_scene(seed, length_s=0.4) for seed in range(24)]
    chosen = np.arange(len(scenes)).repeat(8)

    turned = _first_and_last_frames(scenes).augmented(chosen, np.random.default_rng(0))

    moved = turned.centres[:, 1] - turned.centres[:, 0]
    assert [tuple(int(d) for d in np.sign(row)) for row in moved] == [list(MOTIONS.values())[m] for m in turned.motion]
    for frames, centres, index in zip(turned.frames, turned.centres, chosen, strict=True):
        for frame, (x, y) in zip(frames, centres, strict=True):
            assert tuple(frame[int(y * FRAME_PX), int(x * FRAME_PX)]) == scenes[index].shape_rgb


def test_one_frame_of_each_clip_can_be_taken() -> None:
    clips = _first_and_last_frames([random_scene(seed, length_s=0.2) for seed in range(3)])

    single = clips.augmented(np.array([0, 1, 2, 2]), np.random.default_rng(0), one_frame=True)

    assert single.frames.shape == (4, 1, FRAME_PX, FRAME_PX, 3)
    assert single.centres.shape == (4, 1, 2)


def test_turning_twice_is_not_turning() -> None:
    for turn in (FLIPPED_SIDEWAYS, FLIPPED_UPSIDE_DOWN, REVERSED_IN_TIME):
        assert (turn[turn] == np.arange(len(MOTIONS))).all()


def _first_and_last_frames(scenes: list[Scene]) -> ShapeClips:
    drawn = [list(draw_scene(scene)) for scene in scenes]
    return ShapeClips(
        frames=np.stack([np.stack([frames[0], frames[-1]]) for frames in drawn]),
        colour=np.array([list(COLOURS).index(scene.colour) for scene in scenes]),
        shape=np.array([SHAPES.index(scene.shape) for scene in scenes]),
        motion=np.array([list(MOTIONS).index(scene.motion) for scene in scenes]),
        centres=np.array([[scene.start, scene.end] for scene in scenes], dtype=np.float32),
    )
