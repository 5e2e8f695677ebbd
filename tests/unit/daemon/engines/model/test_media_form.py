"""Frames as models take them."""

import numpy as np

from daemon.engines.model.media_form import MediaForm, black_frames, offsets_ms, rising, video_metadata
from daemon.windows import FrameSet, Window
from tests.windows_of_noise import noise


def test_a_video_carries_the_times_of_its_frames_in_milliseconds() -> None:
    window = noise(4, 8, 8, index=3, window_s=2)

    ((frames, metadata),) = MediaForm("video").media(window.frames, offsets_ms(window), 2000)["video"]

    assert metadata == {
        "fps": 1000.0,
        "frames_indices": [250, 750, 1250, 1750],
        "total_num_frames": 2000,
        "duration": 2.0,
        "video_backend": "captiond",
        "do_sample_frames": False,
    }
    assert frames.shape == (4, 8, 8, 3)
    assert frames.flags.writeable
    np.testing.assert_array_equal(frames, window.frames)


def test_images_are_pictures_in_order() -> None:
    window = noise(3, 6, 8)

    images = MediaForm("image").media(window.frames, offsets_ms(window), 10_000)["image"]

    assert [image.size for image in images] == [(8, 6)] * 3
    np.testing.assert_array_equal(np.stack([np.asarray(image) for image in images]), window.frames)


def test_a_frame_from_before_its_window_counts_from_its_start() -> None:
    window = Window(1, 1_000_000_000, 2_000_000_000, (1_250_000_000, 1_750_000_000), (7, 8))
    frames = FrameSet(window, np.zeros((2, 2, 2, 3), np.uint8), (900_000_000, 1_700_400_000))

    assert offsets_ms(frames) == (0, 700)


def test_times_rise_though_frames_repeat() -> None:
    """A clip of 5 frames a second, sampled at 10: some models leave repeated times out, but not their pixels."""
    window = Window(0, 0, 1_000_000_000, tuple(k * 100_000_000 for k in range(10)), tuple(k // 2 for k in range(10)))
    frames = FrameSet(window, np.zeros((10, 2, 2, 3), np.uint8), tuple(k // 2 * 200_000_000 for k in range(10)))

    ((shown, metadata),) = MediaForm("video").window_media(frames)["video"]

    assert metadata["frames_indices"] == [0, 1, 200, 201, 400, 401, 600, 601, 800, 801]
    assert len(set(metadata["frames_indices"])) == len(shown)
    assert rising([5, 5, 5, 6, 90]) == (5, 6, 7, 8, 90)


def test_times_are_an_argument_of_the_processors_that_take_them_so() -> None:
    window = noise(2, 8, 8)

    takes, other = MediaForm("video", takes_timestamps=True), MediaForm("video")

    assert takes.processor_arguments(takes.window_media(window)) == {"timestamps": [[2.5, 7.5]]}
    assert other.processor_arguments(other.window_media(window)) == {}


def test_a_video_is_never_shorter_than_its_last_frame() -> None:
    assert video_metadata((0, 40), 33)["total_num_frames"] == 41


def test_a_window_is_one_video_or_many_images() -> None:
    assert (MediaForm("video").items(8), MediaForm("image").items(8)) == (1, 8)


def test_a_video_that_is_too_short_repeats_its_last_frame() -> None:
    window = noise(1, 8, 8)

    ((frames, metadata),) = MediaForm("video", least_frames=2).media(window.frames, (500,), 1000)["video"]

    assert frames.shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(frames[0], frames[1])
    assert metadata["frames_indices"] == [500, 501]


def test_black_frames_make_a_window() -> None:
    assert black_frames(3).frames.shape == (3, 64, 64, 3)
