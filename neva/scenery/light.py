"""Light and main colours of a clip, by arithmetic on its frames.

Light is the mean luma of all frames. Colours are counted on the frames shrunk to blocks of an eighth of their side: a
block has the name of its mean colour, and a clip's main colours are the names that most of its blocks have.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neva.scenery.statements import COLOURS, LIGHTS

DARK_BELOW, BRIGHT_FROM = 55.0, 105.0  # mean luma, of 255
SECOND_FROM = 0.25  # the share of the blocks from which a second colour is named
LIGHT_MARGIN, SHARE_MARGIN = 8.0, 0.10  # what is nearer to a threshold than this is right both ways
_BLACK_BELOW, _WHITE_FROM, _BROWN_BELOW = 42, 200, 150  # the largest channel
_GREY_BELOW = 0.16  # the largest channel minus the smallest, as a share of the largest
_LEAST_CHROMA = 14
# Where each hue ends, in degrees; orange becomes brown where it is not light.
_HUES = ((16, "red"), (44, "orange"), (68, "yellow"), (165, "green"), (258, "blue"), (340, "purple"), (361, "red"))


@dataclass(frozen=True, slots=True)
class Measured:
    """The mean luma, 0 to 255, and the share of each of ``COLOURS``."""

    luma: float
    shares: NDArray[np.float64]

    @property
    def light(self) -> str:
        """The name of the light."""
        return LIGHTS[int(self.luma >= DARK_BELOW) + int(self.luma >= BRIGHT_FROM)]

    @property
    def colours(self) -> tuple[str, ...]:
        """The names of the one or two main colours, the first one first."""
        first, second = np.argsort(-self.shares, kind="stable")[:2]
        return (COLOURS[first], COLOURS[second]) if self.shares[second] >= SECOND_FROM else (COLOURS[first],)

    def light_is(self, said: str) -> bool:
        """Say whether a light is right; near a threshold both are."""
        near = (self.luma - LIGHT_MARGIN, self.luma + LIGHT_MARGIN)
        return said in {Measured(luma, self.shares).light for luma in near}

    def colours_are(self, said: tuple[str, ...]) -> bool:
        """Say whether main colours are right; those whose shares are nearly equal may stand for each other."""
        ranked = -np.sort(-self.shares)
        shares = [float(self.shares[COLOURS.index(name)]) for name in said]
        if shares[0] < ranked[0] - SHARE_MARGIN:
            return False
        if len(said) == 1:
            return bool(ranked[1] < SECOND_FROM + SHARE_MARGIN)
        least = max(SECOND_FROM, float(ranked[1])) - SHARE_MARGIN
        return said[0] != said[1] and shares[1] >= least


def measure(frames: NDArray[np.uint8]) -> Measured:
    """Return light and colours of ``uint8[F, S, S, 3]`` RGB; ``S`` is a multiple of 8."""
    blocks = _blocks(frames)
    luma = float((blocks @ np.array([0.299, 0.587, 0.114])).mean())
    return Measured(luma, np.bincount(colour_names(blocks), minlength=len(COLOURS)) / len(blocks))


def patch_colours(frames: NDArray[np.uint8], row: int) -> NDArray[np.float32]:
    """Return the share of each of ``COLOURS`` in the ``row * row`` patches of frames, ``float32[..., P, 10]``."""
    names = colour_names(_blocks(frames)).reshape(-1, row, 8 // row, row, 8 // row)
    known = np.eye(len(COLOURS), dtype=np.float32)[names].mean(axis=(2, 4))
    return np.asarray(known.reshape(*frames.shape[:-3], row * row, len(COLOURS)), dtype=np.float32)


def _blocks(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean colours of the eight by eight blocks of each of ``uint8[..., S, S, 3]``, ``float[N * 64, 3]``."""
    step = frames.shape[-2] // 8
    return np.asarray(frames.reshape(-1, 8, step, 8, step, 3).mean(axis=(2, 4)).reshape(-1, 3), dtype=np.float64)


def colour_names(rgb: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the positions in ``COLOURS`` of the names of ``float[N, 3]``, 0 to 255."""
    red, green, blue = rgb.T
    most, chroma = rgb.max(axis=1), rgb.max(axis=1) - rgb.min(axis=1)
    safe = np.maximum(chroma, 1e-6)
    hue = np.where(most == red, (green - blue) / safe % 6, np.where(most == green, (blue - red) / safe + 2, 0.0))
    hue = 60 * np.where((most == blue) & (most != red) & (most != green), (red - green) / safe + 4, hue)
    ends, names = zip(*_HUES, strict=True)
    found = np.array([COLOURS.index(name) for name in names])[np.searchsorted(ends, hue, side="right")]
    found = np.where((found == COLOURS.index("orange")) & (most < _BROWN_BELOW), COLOURS.index("brown"), found)
    plain = np.where(most >= _WHITE_FROM, COLOURS.index("white"), COLOURS.index("grey"))
    found = np.where((chroma < _GREY_BELOW * most) | (chroma < _LEAST_CHROMA), plain, found)
    return np.where(most < _BLACK_BELOW, COLOURS.index("black"), found)
