"""Pictures of what the model sees."""

from pathlib import Path

import numpy as np
from PIL import Image

from daemon.commands.contact_sheet import SHEET_NAME, PictureFolder
from tests.windows_of_noise import noise


def opened(path: Path | None) -> np.ndarray:
    assert path is not None
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_each_frame_is_a_picture_named_by_its_time(tmp_path: Path) -> None:
    windows = [noise(3, 48, 64, index=k, seed=k) for k in range(2)]

    folder = PictureFolder(tmp_path / "out")
    paths = [path for window in windows for path in folder.add(window)]
    folder.finish()

    assert [p.name for p in paths[:3]] == [
        "w0000_f00_1666666666.png",
        "w0000_f01_5000000000.png",
        "w0000_f02_8333333333.png",
    ]
    assert paths[3].name.startswith("w0001_f00_")
    for window, start in zip(windows, (0, 3), strict=True):
        for frame, path in zip(window.frames, paths[start : start + 3], strict=True):
            np.testing.assert_array_equal(opened(path), frame)
    assert (tmp_path / "out" / SHEET_NAME).exists()


def test_the_sheet_shows_a_row_for_each_window(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path)
    for k in range(3):
        folder.add(noise(4, 90, 160, index=k))

    sheet = opened(folder.finish())

    assert sheet.shape[1] >= 4 * 160
    assert sheet.shape[0] >= 3 * (90 + 32)
    assert sheet.std() > 10


def test_a_long_clip_gives_a_sheet_that_can_be_opened(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path)
    for k in range(200):
        folder.add(noise(1, 160, 90, index=k))

    assert opened(folder.finish()).shape[0] <= 16_100


def test_nothing_to_show_is_no_sheet(tmp_path: Path) -> None:
    assert PictureFolder(tmp_path).finish() is None
    assert list(tmp_path.iterdir()) == []


def test_windows_of_different_sizes_stand_on_one_sheet(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path)
    sizes = ((96, 176), (160, 90), (64, 64))
    paths = [path for at, size in enumerate(sizes) for path in folder.add(noise(2, *size, index=at))]

    assert [opened(path).shape[:2] for path in paths[::2]] == list(sizes)
    assert opened(folder.finish()).shape[1] >= 2 * 160
