"""The items of a HEIC or AVIF file: which of them make up the picture, where they belong, and how it is shown.

ISO/IEC 23008-12. FFmpeg's demuxer gives each coded item as a stream whose id is the item's, and PyAV does not pass on
how they belong together; only that is read here, and decoding remains FFmpeg's.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from connectors.errors import Poison, Reason

_MAX_META_BYTES = 8 * 2**20  # a phone's picture of 48 megapixels in 192 tiles takes some 10 KB
_MAX_BOXES = 100
_MAX_EXTENTS = 64  # of one item: writers store it in one piece
_CODED = {b"hvc1": "hevc", b"av01": "av1"}
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")


@dataclass(frozen=True, slots=True)
class Nclx:
    """What a ``colr`` box says of the colours, by the numbers of ITU-T H.273."""

    primaries: int
    transfer: int
    matrix: int
    full_range: bool


@dataclass(frozen=True, slots=True)
class Layer:
    """Coded items side by side, row by row, and the size of what they show together."""

    items: tuple[int, ...]
    columns: int
    width: int
    height: int
    nclx: Nclx | None


@dataclass(frozen=True, slots=True)
class HeifPicture:
    """A picture: its colours, maybe its alpha, and the steps, in order, that make it upright."""

    codec: str
    colour: Layer
    alpha: Layer | None
    premultiplied: bool
    steps: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height once all steps are done."""
        width, height = self.colour.width, self.colour.height
        for name, numbers in self.steps:
            if name == "clap":
                _, _, width, height = crop(numbers, width, height)
            elif name == "irot" and numbers[0] % 2:
                width, height = height, width
        return width, height


def read_heif(descriptor: int) -> HeifPicture | None:
    """Return the primary picture of a file; None where it is none, and :class:`Poison` where it can't be shown."""
    meta = _meta_of(descriptor)
    if meta is None:
        return None
    try:
        items = _Items(meta)
        if items.primary < 0:
            return None
        picture = items.picture()
        width, height = picture.size
    except (LookupError, ValueError, ZeroDivisionError) as error:
        raise Poison(Reason.CORRUPT, "what describes the picture's items can't be read") from error
    if width < 1 or height < 1:
        raise Poison(Reason.CORRUPT, "a picture without a size")
    end = items.end_of((*picture.colour.items, *(picture.alpha.items if picture.alpha else ())))
    size_bytes = os.fstat(descriptor).st_size
    if end > size_bytes:
        raise Poison(Reason.TRUNCATED, f"truncated at {size_bytes:,} bytes of at least {end:,}")
    return picture


def crop(numbers: tuple[int, ...], width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, top, width and height that a ``clap`` property leaves of a picture, never outside of it."""
    wide, high, right, down = (Fraction(numbers[2 * i], numbers[2 * i + 1]) for i in range(4))
    left = round(Fraction(width - 1, 2) + right - (wide - 1) / 2)
    top = round(Fraction(height - 1, 2) + down - (high - 1) / 2)
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return left, top, min(max(round(wide), 1), width - left), min(max(round(high), 1), height - top)


def _meta_of(descriptor: int) -> bytes | None:
    """Return the content of the file's own ``meta`` box; None where there is none, or a film beside it."""
    if os.pread(descriptor, 8, 0)[4:] != b"ftyp":
        return None
    at, meta, size_bytes = 0, None, os.fstat(descriptor).st_size
    for _ in range(_MAX_BOXES):
        header = os.pread(descriptor, 16, at)
        if len(header) < 8:
            break
        length, kind, begin = int.from_bytes(header[:4], "big"), header[4:8], 8
        if length == 1:
            length, begin = int.from_bytes(header[8:16], "big"), 16
        if kind == b"moov":
            return None
        if kind == b"meta" and meta is None and begin < length <= _MAX_META_BYTES and at + length <= size_bytes:
            meta = os.pread(descriptor, length - begin, at + begin)
        if length < 8:
            break
        at += length
    return meta


@dataclass(slots=True)
class _Reader:
    """Numbers from bytes, one after the other; ``IndexError`` where the bytes end."""

    data: bytes
    at: int = 0

    def number(self, size: int) -> int:
        if self.at + size > len(self.data):
            raise IndexError
        self.at += size
        return int.from_bytes(self.data[self.at - size : self.at], "big")

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.data):
            raise IndexError
        self.at += size
        return self.data[self.at - size : self.at]

    def boxes(self) -> Iterator[tuple[bytes, "_Reader"]]:
        while self.at + 8 <= len(self.data):
            length, kind = self.number(4), self.take(4)
            if length == 1:
                length = self.number(8) - 8
            yield kind, _Reader(self.take(length - 8 if length else len(self.data) - self.at))


@dataclass(slots=True)
class _Items:
    """A ``meta`` box, read."""

    meta: bytes
    primary: int = -1
    kinds: dict[int, bytes] = field(default_factory=dict)
    references: dict[tuple[bytes, int], list[int]] = field(default_factory=dict)
    properties: dict[int, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    extents: dict[int, tuple[int, list[tuple[int, int]]]] = field(default_factory=dict)  # construction, (offset, bytes)
    data: bytes = b""

    def __post_init__(self) -> None:
        readers = {
            b"pitm": self._pitm,
            b"iinf": self._iinf,
            b"iref": self._iref,
            b"iprp": self._iprp,
            b"iloc": self._iloc,
        }
        for kind, box in _Reader(self.meta, 4).boxes():
            if kind in readers:
                readers[kind](box)
            elif kind == b"idat":
                self.data = box.data

    def picture(self) -> HeifPicture:
        """Return the primary item's picture."""
        alphas = [
            item
            for (kind, item), targets in self.references.items()
            if kind == b"auxl"
            and self.primary in targets
            and any(self._of(item, b"auxC")[4:].startswith(a) for a in _ALPHA)
        ]
        colour = self._layer(self.primary)
        alpha = self._layer(alphas[0]) if alphas else None
        premultiplied = bool(alphas) and alphas[0] in self.references.get((b"prem", self.primary), [])
        steps = tuple(
            (kind.decode(), _step(kind, data))
            for kind, data in self.properties.get(self.primary, [])
            if kind in (b"irot", b"imir", b"clap")
        )
        codec = _CODED[self.kinds[colour.items[0]]]
        return HeifPicture(codec, colour, alpha, premultiplied, steps)

    def end_of(self, items: tuple[int, ...]) -> int:
        """Return the first byte of the file that comes after all of these items."""
        ends = [0]
        for item in items:
            construction, extents = self.extents.get(item, (0, []))
            if construction == 0:
                ends += [offset + length for offset, length in extents]
        return max(ends)

    def _layer(self, item: int) -> Layer:
        kind = self.kinds.get(item, b"")
        size = _Reader(self._of(item, b"ispe"), 4)
        colours = (_nclx(data) for kind, data in self.properties.get(item, []) if kind == b"colr")
        nclx = next((found for found in colours if found is not None), None)
        if kind in _CODED:
            return Layer((item,), 1, size.number(4), size.number(4), nclx)
        if kind != b"grid":
            name = kind.decode("ascii", "replace").strip() or "nothing"
            raise Poison(
                Reason.UNSUPPORTED_CODEC, f"a picture of {name!r} items; hvc1, av01 and grids of them are decoded"
            )
        construction, extents = self.extents[item]
        if construction != 1:
            raise Poison(Reason.UNSUPPORTED_CODEC, "a grid that is described outside of the file's header")
        grid = _Reader(b"".join(self.data[offset : offset + length] for offset, length in extents))
        grid.number(1)
        wide = 4 if grid.number(1) & 1 else 2
        rows, columns = grid.number(1) + 1, grid.number(1) + 1
        tiles = tuple(self.references[b"dimg", item])
        if len(tiles) != rows * columns or any(self.kinds.get(tile) not in _CODED for tile in tiles):
            raise ValueError("not the tiles of the grid")
        first = self._layer(tiles[0]).nclx
        return Layer(tiles, columns, grid.number(wide), grid.number(wide), nclx or first)

    def _of(self, item: int, kind: bytes) -> bytes:
        return next((data for name, data in self.properties.get(item, []) if name == kind), b"")

    def _pitm(self, box: _Reader) -> None:
        self.primary = box.number(2 if box.number(4) >> 24 == 0 else 4)

    def _iinf(self, box: _Reader) -> None:
        box.number(2 if box.number(4) >> 24 == 0 else 4)
        for kind, entry in box.boxes():
            version = entry.number(4) >> 24
            if kind == b"infe" and version >= 2:
                item = entry.number(2 if version == 2 else 4)
                entry.number(2)
                self.kinds[item] = entry.take(4)

    def _iref(self, box: _Reader) -> None:
        wide = 2 if box.number(4) >> 24 == 0 else 4
        for kind, entry in box.boxes():
            item = entry.number(wide)
            self.references[kind, item] = [entry.number(wide) for _ in range(entry.number(2))]

    def _iprp(self, box: _Reader) -> None:
        known: list[tuple[bytes, bytes]] = [(b"", b"")]
        for kind, entry in box.boxes():
            if kind == b"ipco":
                known += [(name, content.data) for name, content in entry.boxes()]
            elif kind == b"ipma":
                flags = entry.number(4)
                for _ in range(entry.number(4)):
                    item = entry.number(2 if flags >> 24 == 0 else 4)
                    places = [
                        entry.number(2) & 0x7FFF if flags & 1 else entry.number(1) & 0x7F
                        for _ in range(entry.number(1))
                    ]
                    self.properties.setdefault(item, []).extend(known[place] for place in places)

    def _iloc(self, box: _Reader) -> None:
        version = box.number(4) >> 24
        sizes, more = box.number(1), box.number(1)
        for _ in range(box.number(2 if version < 2 else 4)):
            item = box.number(2 if version < 2 else 4)
            construction = box.number(2) & 15 if version else 0
            box.number(2)
            base = box.number(more >> 4)
            extents = []
            count = box.number(2)
            if count > _MAX_EXTENTS:
                raise ValueError(f"an item in {count:,} pieces")
            for _ in range(count):
                box.number(more & 15 if version else 0)
                offset, length = box.number(sizes >> 4), box.number(sizes & 15)
                extents.append((base + offset, length))
            self.extents[item] = construction, extents


def _nclx(colr: bytes) -> Nclx | None:
    if colr[:4] != b"nclx":
        return None
    box = _Reader(colr, 4)
    return Nclx(box.number(2), box.number(2), box.number(2), bool(box.number(1) & 0x80))


def _step(kind: bytes, data: bytes) -> tuple[int, ...]:
    box = _Reader(data)
    if kind == b"irot":
        return (box.number(1) & 3,)
    if kind == b"imir":
        return (box.number(1) & 1,)
    numbers = [box.number(4) for _ in range(8)]
    return tuple(n - (1 << 32) if i in (4, 6) and n >> 31 else n for i, n in enumerate(numbers))
