"""The items of HEIC and AVIF files, and how little it takes to be refused."""

import contextlib
import os
import random
from pathlib import Path

import numpy as np
import pytest

from connectors.errors import Poison
from daemon.decoding.child.pictures.heif import HeifPicture, crop, read_heif
from daemon.decoding.child.pictures.transparency import lay_pixels_over
from daemon.decoding.media import MediaLimits, is_picture

INPUTS = Path(__file__).parents[4] / "field" / "inputs"


def read(data: bytes, tmp_path: Path) -> HeifPicture | None:
    path = tmp_path / "picture.heic"
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return read_heif(descriptor)
    finally:
        os.close(descriptor)


def test_a_grid_has_its_tiles_in_order(tmp_path: Path) -> None:
    picture = read((INPUTS / "c08_grid.heic").read_bytes(), tmp_path)

    assert picture is not None
    assert picture.codec == "hevc"
    assert picture.colour.items == (2, 3, 4, 5)
    assert picture.colour.columns == 2
    assert picture.size == (256, 192)


def test_a_turned_picture_has_its_size_upright(tmp_path: Path) -> None:
    picture = read((INPUTS / "c08_single_irot.heic").read_bytes(), tmp_path)

    assert picture is not None
    assert (picture.colour.width, picture.colour.height) == (192, 256)
    assert picture.size == (256, 192)


@pytest.mark.parametrize("name", ["c15_rot90.mp4", "c01_exif_1.jpg", "c13_alpha.png"])
def test_what_is_no_such_picture_is_left_to_ffmpeg(tmp_path: Path, name: str) -> None:
    assert read((INPUTS / name).read_bytes(), tmp_path) is None


# ISO/IEC 14496-12, 12.1.4: the middle of the aperture lies at the picture's middle plus the offset
@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((100, 1, 50, 1, 0, 1, 0, 1), (50, 25, 100, 50)),
        ((100, 1, 50, 1, -50, 1, -25, 1), (0, 0, 100, 50)),
        ((100, 1, 50, 1, 50, 1, 25, 1), (100, 50, 100, 50)),
        ((199, 1, 99, 1, -1, 2, 1, 2), (0, 1, 199, 99)),
        ((1000, 1, 1000, 1, 0, 1, 0, 1), (0, 0, 200, 100)),
    ],
)
def test_a_clean_aperture(numbers: tuple[int, ...], expected: tuple[int, int, int, int]) -> None:
    assert crop(numbers, 200, 100) == expected


@pytest.mark.parametrize("name", ["c08_grid.heic", "c08_single_irot.heic", "c09_single.avif"])
def test_damage_is_poison_or_nothing(tmp_path: Path, name: str) -> None:
    whole, chance = (INPUTS / name).read_bytes(), random.Random(7)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(600 if len(data) > 600 else len(data))] = chance.randrange(256)
        with contextlib.suppress(Poison):
            read(bytes(data), tmp_path)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("premultiplied", [False, True])
def test_alpha_by_the_formula(depth: type[np.unsignedinteger], premultiplied: bool) -> None:
    chance, top = np.random.default_rng(5), int(np.iinfo(depth).max)
    colours = chance.integers(0, top + 1, (64, 48, 3)).astype(depth)
    alpha = chance.choice([0, 1, top // 2, top - 1, top], (64, 48)).astype(depth)
    colours = np.minimum(colours, alpha[:, :, None]) if premultiplied else colours
    share = alpha[:, :, None] / top
    behind = np.array((255, 128, 0)) / 255 * top
    right = (colours if premultiplied else colours * share) + behind * (1 - share)

    lay_pixels_over(colours, alpha, (255, 128, 0), premultiplied=premultiplied)

    assert np.abs(colours - right).max() <= 0.51


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("c01_exif_1.jpg", True),
        ("c13_alpha.png", True),
        ("c02_exif_6.webp", True),
        ("c08_grid.heic", True),
        ("c09_single.avif", True),
        ("c12_anim.png", False),
        ("c12_anim.gif", False),
        ("c12_anim.webp", False),
        ("c15_rot90.mp4", False),
        ("c14_444_12.mkv", False),
    ],
)
def test_only_a_picture_may_be_as_large_as_a_picture(name: str, expected: bool) -> None:
    head = (INPUTS / name).read_bytes()[:4096]
    limits = MediaLimits(1000, 60.0, max_picture_pixels=5000)

    assert is_picture(head) is expected
    assert limits.of(head).max_pixels == (5000 if expected else 1000)
    assert limits.of(head).shown_pixels == (1000 if expected else 0)


def test_an_operators_own_limit_is_never_lowered() -> None:
    limits = MediaLimits(9000, 60.0, max_picture_pixels=5000)

    assert limits.of((INPUTS / "c01_exif_1.jpg").read_bytes()).max_pixels == 9000
