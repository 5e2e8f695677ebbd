"""Small clips with seeded damage: cut at every 26 bytes of their start, then in steps; flipped, zeroed, stretched."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.corpus.clips import Recipe, make

SOUND = {
    "faststart": Recipe(frames=50, container_options={"movflags": "faststart"}),
    "moov_last": Recipe(frames=50),
    "fragments": Recipe(frames=50, container_options={"movflags": "frag_keyframe+empty_moov"}),
    "mkv": Recipe(frames=50, suffix="mkv"),
    "ts": Recipe(frames=50, suffix="ts"),
    "avi": Recipe("mpeg4", "avi", frames=50, options={"g": "12", "bf": "2"}),
    "hevc": Recipe("libx265", frames=40, options={"x265-params": "log-level=none:keyint=20"}),
    "vp9": Recipe("libvpx-vp9", "webm", frames=30, options={"g": "15", "deadline": "realtime", "cpu-used": "8"}),
    "one_frame": Recipe(frames=1),
}


def originals(folder: Path) -> dict[str, bytes]:
    """Make the sound clips and return their bytes."""
    return {name: make(folder / name, recipe).path.read_bytes() for name, recipe in SOUND.items()}


def cuts(data: bytes) -> Iterator[bytes]:
    """Yield the clip cut every 26 bytes of its first 2,600, then in steps of 5 %."""
    for end in (*range(26, 2600, 26), *(len(data) * part // 20 for part in range(1, 20))):
        if end < len(data):
            yield data[:end]


def mutant(data: bytes, seed: int) -> bytes:
    """Return the clip with one kind of damage in one to ten places, the same for the same seed."""
    random = np.random.default_rng(seed)
    changed = bytearray(data)
    kind = seed % 4
    for _ in range(int(random.integers(1, 11))):
        at = int(random.integers(0, len(changed)))
        length = int(random.integers(1, 200))
        if kind == 0:
            changed[at] ^= 1 << int(random.integers(0, 8))
        elif kind == 1:
            changed[at : at + length] = bytes(len(changed[at : at + length]))
        elif kind == 2:
            changed[at:at] = random.bytes(length)
        else:
            changed[at : at + length] = random.bytes(len(changed[at : at + length]))
    return bytes(changed)
