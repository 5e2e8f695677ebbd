"""Padding, channel order and normalisation, against hand-made values and Hugging Face's own processors."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from neva.pixel_values import CLIP, SIGLIP, TowerPixels, pad_to_square, pixel_values, prepare_frames, processor_config


def noise(height: int, width: int, count: int = 2) -> NDArray[np.uint8]:
    """Return smooth noise: what a resampling filter does to it is of the order of a grey level."""
    rng = np.random.default_rng(7)
    small = rng.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC)) for one in small]
    )


def test_clips_pad_colour() -> None:
    assert CLIP.pad_colour == (122, 116, 104)
    assert SIGLIP.pad_colour == (127, 127, 127)


def test_a_wide_frame_is_padded_above_and_below() -> None:
    frames = np.full((1, 3, 6, 3), 9, np.uint8)

    padded = pad_to_square(frames, (1, 2, 3))

    assert padded.shape == (1, 6, 6, 3)
    assert (padded[0, 1:4] == 9).all()  # the room of 3 rows is one above and two below
    assert (padded[0, [0, 4, 5]] == (1, 2, 3)).all()


def test_a_tall_frame_is_padded_left_and_right() -> None:
    padded = pad_to_square(np.full((2, 5, 2, 3), 9, np.uint8), (1, 2, 3))

    assert (padded[:, :, 1:3] == 9).all()
    assert (padded[:, :, [0, 3, 4]] == (1, 2, 3)).all()


def test_a_square_frame_is_left_alone() -> None:
    frames = noise(8, 8)

    assert pad_to_square(frames, (0, 0, 0)) is frames
    assert prepare_frames(frames, "square") is frames


def test_the_first_generation_sees_the_channels_turned_round() -> None:
    frames = noise(6, 8)

    turned = prepare_frames(frames, "square", legacy_bgr=True)

    assert (turned[..., 0] == frames[..., 2]).all()
    assert (turned[..., 1] == frames[..., 1]).all()
    assert (turned[..., 2] == frames[..., 0]).all()


@pytest.mark.parametrize("aspect_ratio", ["square", "pad"])
@pytest.mark.parametrize("size", [(48, 64), (64, 48), (56, 56)])
@pytest.mark.parametrize("tower", [CLIP, SIGLIP], ids=["clip", "siglip"])
def test_the_processors_of_hugging_face_agree(tower: TowerPixels, size: tuple[int, int], aspect_ratio: str) -> None:
    transformers = pytest.importorskip("transformers")
    config = processor_config(tower, 56, aspect_ratio)  # type: ignore[arg-type]
    processor = getattr(transformers, config.pop("image_processor_type"))(**config)
    frames = noise(*size)

    theirs = processor(list(frames), return_tensors="np")["pixel_values"]
    ours = pixel_values(frames, tower, 56, aspect_ratio)  # type: ignore[arg-type]

    assert ours.shape == theirs.shape == (2, 3, 56, 56)
    levels = np.abs(ours - theirs) * np.reshape(tower.std, (1, 3, 1, 1)) * 255
    assert levels.max() <= 4  # torchvision's antialiased bicubic on bytes differs from Pillow's by grey levels
    assert levels.mean() < 0.5


def test_a_reversed_tower_with_reversed_frames_sees_the_same() -> None:
    frames = noise(40, 64)

    as_trained = pixel_values(np.ascontiguousarray(frames[..., ::-1]), CLIP, 56)
    baked = pixel_values(frames, CLIP.reversed(), 56)[:, ::-1]

    np.testing.assert_allclose(baked, as_trained, atol=1e-6)
