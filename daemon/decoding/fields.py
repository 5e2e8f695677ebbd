"""Messages as bytes: a message is a frozen dataclass, and each field's annotation names its form and its bounds.

    @dataclass(frozen=True, slots=True)
    class Planned:
        codec: Annotated[str, Text(200)]
        width: Annotated[int, Whole(1, 65_535)]

The fields follow each other in the order of the class, little-endian, without names. Nothing is nested, so whoever
reads needs no recursion, and every size is checked against what is there before it is used. What does not fit a form
or its bounds is a ``ValueError``, and nothing else is ever raised by :func:`decode`.
"""

import dataclasses
import struct
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, get_type_hints

Message = TypeVar("Message")
Data = bytes | bytearray
Clean = Callable[[str], str]  # what is done with every text that is read

_COUNT, _BYTE = struct.Struct("<I"), struct.Struct("<B")
_WHOLE, _REAL = struct.Struct("<q"), struct.Struct("<d")


class _Reader:
    """Bytes with a place in them."""

    def __init__(self, data: Data, clean: Clean) -> None:
        self._data, self._at, self.clean = memoryview(data), 0, clean

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def _pass(self, size_bytes: int) -> int:
        """Go on behind a field; return where it begins."""
        at, end = self._at, self._at + size_bytes
        if end > len(self._data):
            raise ValueError(f"a field of {size_bytes} bytes where {self.left} are left")
        self._at = end
        return at

    def take(self, size_bytes: int) -> memoryview:
        at = self._pass(size_bytes)
        return self._data[at : self._at]

    def one(self, form: struct.Struct) -> Any:
        return form.unpack_from(self._data, self._pass(form.size))[0]

    def wholes(self, number: int) -> tuple[int, ...]:
        return struct.unpack_from(f"<{number}i", self._data, self._pass(4 * number))


class Form(Protocol):
    """The bytes of a value, and what bounds it."""

    def write(self, value: Any) -> bytes:
        """Return a value's bytes."""
        ...

    def read(self, reader: _Reader) -> Any:
        """Return the value that comes next; ``ValueError`` when there is none."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Whole:
    """A whole number of 64 bits, from ``low`` to ``high``."""

    low: int
    high: int

    def write(self, value: int) -> bytes:
        return _WHOLE.pack(_within(value, self.low, self.high))

    def read(self, reader: _Reader) -> int:
        return int(_within(reader.one(_WHOLE), self.low, self.high))


@dataclasses.dataclass(frozen=True, slots=True)
class Real:
    """A finite number, from ``low`` to ``high``."""

    low: float
    high: float

    def write(self, value: float) -> bytes:
        return _REAL.pack(_within(value, self.low, self.high))

    def read(self, reader: _Reader) -> float:
        return float(_within(reader.one(_REAL), self.low, self.high))


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """One of some values, by its number among them: a truth, a name, a member of an enumeration."""

    values: Sequence[Any]

    def write(self, value: object) -> bytes:
        return _BYTE.pack(tuple(self.values).index(value))

    def read(self, reader: _Reader) -> Any:
        return tuple(self.values)[int(_within(reader.one(_BYTE), 0, len(self.values) - 1))]


TRUTH = Choice((False, True))


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """A text in UTF-8 with its length before it. It is cut to ``chars`` by whoever writes, and by whoever reads."""

    chars: int

    def write(self, value: str) -> bytes:
        data = value[: self.chars].encode("utf-8", "replace")
        return _COUNT.pack(len(data)) + data

    def read(self, reader: _Reader) -> str:
        return reader.clean(str(reader.take(reader.one(_COUNT)), "utf-8"))[: self.chars]


@dataclasses.dataclass(frozen=True, slots=True)
class Texts:
    """At most ``count`` texts of at most ``chars`` characters each."""

    count: int
    chars: int

    def write(self, value: Sequence[str]) -> bytes:
        number = int(_within(len(value), 0, self.count))
        return b"".join((_COUNT.pack(number), *map(Text(self.chars).write, value)))

    def read(self, reader: _Reader) -> tuple[str, ...]:
        number = int(_within(reader.one(_COUNT), 0, self.count))
        return tuple(Text(self.chars).read(reader) for _ in range(number))


@dataclasses.dataclass(frozen=True, slots=True)
class Wholes:
    """At most ``count`` whole numbers of 32 bits, from ``low`` to ``high``."""

    low: int
    high: int
    count: int

    def write(self, value: Sequence[int]) -> bytes:
        _within(len(value), 0, self.count)
        if len(value):
            _within(min(value), self.low, self.high)
            _within(max(value), self.low, self.high)
        return struct.pack(f"<I{len(value)}i", len(value), *value)

    def read(self, reader: _Reader) -> tuple[int, ...]:
        values = reader.wholes(int(_within(reader.one(_COUNT), 0, self.count)))
        if values:
            _within(min(values), self.low, self.high)
            _within(max(values), self.low, self.high)
        return values


def encode(message: object) -> bytes:
    """Return the bytes of a message; ``ValueError`` when a field is out of its bounds."""
    return b"".join(form.write(getattr(message, name)) for name, form in fields_of(type(message)))


def decode(kind: type[Message], data: Data, clean: Clean = str) -> Message:
    """Return the message that :func:`encode` wrote; ``ValueError`` when these bytes are none, to the last one."""
    reader = _Reader(data, clean)
    message = kind(**{name: form.read(reader) for name, form in fields_of(kind)})
    if reader.left:
        raise ValueError(f"{reader.left} bytes after a message")
    return message


def fields_of(kind: type) -> tuple[tuple[str, Form], ...]:
    """Return the fields of a message, each with the form that its annotation names."""
    if kind not in _FIELDS:
        hints = get_type_hints(kind, include_extras=True)
        _FIELDS[kind] = tuple((field.name, hints[field.name].__metadata__[0]) for field in dataclasses.fields(kind))
    return _FIELDS[kind]


_FIELDS: dict[type, tuple[tuple[str, Form], ...]] = {}


def _within(value: float, low: float, high: float) -> float:
    if not low <= value <= high:  # as NaN never is
        raise ValueError(f"{value} is not from {low} to {high}")
    return value
