"""Photographs for synthetic clips, each in several sizes; those held out are known by their file's name."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_HELD_OUT_OF_FIVE = 0  # the fifth of the files, by a checksum of the name, that training never sees
_STEP = 1.3  # from one size to the next
_SMALLEST_PX = 72


@dataclass(frozen=True, slots=True)
class Photograph:
    """A picture as ``uint8[H, W, 3]`` RGB in falling sizes, the first at most 480 px on its shorter side."""

    name: str
    sizes: tuple[NDArray[np.uint8], ...]

    def for_scale(self, crop: float, pixels: int) -> NDArray[np.uint8]:
        """Return the smallest size in which ``crop`` of the shorter side still has ``pixels``, or the first."""
        fitting = [size for size in self.sizes if crop * min(size.shape[:2]) >= pixels]
        return fitting[-1] if fitting else self.sizes[0]


def photograph_of(name: str, rgb: NDArray[np.uint8]) -> Photograph:
    """Return a picture with its smaller sizes."""
    sizes, image = [rgb], Image.fromarray(rgb)
    while min(image.size) / _STEP >= _SMALLEST_PX:
        image = image.resize((round(image.width / _STEP), round(image.height / _STEP)), Image.Resampling.BOX)
        sizes.append(np.asarray(image))
    return Photograph(name, tuple(sizes))


def load_photographs(folder: Path, *, held_out: bool) -> list[Photograph]:
    """Return the photographs of ``folder`` for training, or those that are held out."""
    found = []
    for path in sorted(folder.glob("*.png")):
        if (zlib.crc32(path.name.encode()) % 5 == _HELD_OUT_OF_FIVE) == held_out:
            with Image.open(path) as image:
                found.append(photograph_of(path.stem, np.asarray(image.convert("RGB"))))
    return found


def draw_texture(rng: np.random.Generator, side: int = 256) -> Photograph:
    """Return a picture that no camera took: coloured noise of a random smoothness, with random edges in it."""
    shape = (side, side)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side))) + 1 / side
    falling = frequency ** -rng.uniform(0.9, 1.8)
    layers = []
    for _ in range(3):
        layer = np.fft.ifft2(np.fft.fft2(rng.normal(size=shape)) * falling).real
        layers.append((layer - layer.mean()) / layer.std())
    mixed = np.stack(layers, axis=-1) @ (np.ones((3, 3)) * rng.uniform(0.3, 1) + rng.normal(0, 0.45, (3, 3)))
    rgb = rng.uniform(20, 220, 3) + rng.uniform(15, 45) * mixed
    along = np.arange(side) / side
    for _ in range(rng.integers(0, 14)):  # rectangles and discs
        x, y = rng.uniform(0, 1, 2)
        width, height = rng.uniform(0.03, 0.3, 2)
        inside = (np.abs(along - x) < width)[None, :] & (np.abs(along - y) < height)[:, None]
        if rng.random() < 0.5:
            inside = ((along[None, :] - x) / width) ** 2 + ((along[:, None] - y) / height) ** 2 < 1
        rgb[inside] = 0.3 * rgb[inside] + 0.7 * rng.uniform(0, 255, 3)
    return photograph_of("texture", np.clip(rgb, 0, 255).astype(np.uint8))
