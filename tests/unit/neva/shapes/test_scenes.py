"""The synthetic clips: the same seed is the same clip, and the caption says what is drawn."""

import dataclasses
import re
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from neva.shapes.clip_frames import read_clip_frames
from neva.shapes.scenes import (
    COLOURS,
    FRAME_PX,
    HELD_OUT_SEEDS,
    MOTIONS,
    SHAPES,
    TRAINING_SEEDS,
    all_captions,
    caption_of,
    draw_scene,
    encode_clip,
    film_of,
    random_scene,
    write_clip,
    write_film,
)

GRAMMAR = re.compile(
    rf"A ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)}) (moves (to the (left|right)|up|down)|stays still)\."
)


def test_the_same_seed_is_the_same_clip() -> None:
    scene = random_scene(7, length_s=0.5)

    assert scene == random_scene(7, length_s=0.5)
    assert encode_clip(scene) == encode_clip(random_scene(7, length_s=0.5))
    assert encode_clip(scene) != encode_clip(random_scene(8, length_s=0.5))


def test_training_and_held_out_seeds_never_meet() -> None:
    assert TRAINING_SEEDS.stop <= HELD_OUT_SEEDS.start


def test_captions_follow_the_grammar() -> None:
    captions = all_captions()

    assert len(set(captions)) == len(captions) == len(COLOURS) * len(SHAPES) * len(MOTIONS)
    assert all(GRAMMAR.fullmatch(caption) for caption in captions)
    assert {caption_of(random_scene(seed)) for seed in range(3000)} == set(captions)


@pytest.mark.parametrize("seed", range(40))
def test_the_shape_stays_in_the_frame_and_moves_as_said(seed: int) -> None:
    scene = random_scene(seed)
    along = np.array([scene.centre_at(k / 10) for k in range(11)])
    moved = along[-1] - along[0]

    assert (along - scene.size / 2 >= 0).all()
    assert (along + scene.size / 2 <= 1).all()
    assert tuple(int(d) for d in np.sign(moved)) == MOTIONS[scene.motion]
    assert scene.motion == "stays still" or np.abs(moved).max() >= 0.25


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_drawn_is_the_scene(shape: str) -> None:
    scene = dataclasses.replace(random_scene(3, length_s=0.2), shape=shape, texture=0.0)
    frames = list(draw_scene(scene))
    x, y = (round(c * FRAME_PX) for c in scene.start)

    assert len(frames) == scene.frames
    assert all(frame.shape == (FRAME_PX, FRAME_PX, 3) and frame.dtype == np.uint8 for frame in frames)
    assert tuple(frames[0][y, x]) == scene.shape_rgb
    corners = frames[0][[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == scene.background_rgb).all()


def test_a_colour_survives_encoding() -> None:
    scene = dataclasses.replace(random_scene(5), motion="stays still", end=random_scene(5).start, crf=18)
    frames, begins = read_clip_frames(encode_clip(scene), 8)
    x, y = (round(c * FRAME_PX) for c in scene.start)

    assert frames.shape == (8, FRAME_PX, FRAME_PX, 3)
    assert all(earlier < later for earlier, later in pairwise(begins))
    assert np.abs(frames[:, y, x].astype(int) - scene.shape_rgb).max() <= 12


def test_a_clip_is_h264_as_long_as_its_scene(tmp_path: Path) -> None:
    scene = random_scene(11)
    write_clip(tmp_path / "clip.mp4", scene)

    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.frames) == (FRAME_PX, FRAME_PX, scene.frames)


def test_a_film_shows_its_scenes_one_after_another(tmp_path: Path) -> None:
    scenes = film_of([1, 2, 3], scene_s=1.0)
    write_film(tmp_path / "film.mp4", scenes)
    frames, _ = read_clip_frames((tmp_path / "film.mp4").read_bytes(), 3)

    assert [scene.frames for scene in scenes] == [24, 24, 24]
    for frame, scene in zip(frames, scenes, strict=True):
        x, y = (round(c * FRAME_PX) for c in scene.centre_at(0.5))
        assert np.abs(frame[y, x].astype(int) - scene.shape_rgb).max() <= 24


def test_a_film_has_one_frame_rate(tmp_path: Path) -> None:
    scenes = film_of([1, 2], scene_s=1.0)
    mixed = [scenes[0], dataclasses.replace(scenes[1], frame_rate=30)]

    with pytest.raises(ValueError, match=r"one frame rate, not \[24, 30\]"):
        write_film(tmp_path / "film.mp4", mixed)


def test_a_scene_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="'pink'"):
        dataclasses.replace(random_scene(0), colour="pink")
