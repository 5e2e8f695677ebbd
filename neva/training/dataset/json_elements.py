"""The elements of a JSON list, or of a file with one on each line, with their places in the file.

A file is read from front to back in pieces, so its size costs time and no memory.
"""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

_PIECE_BYTES = 2**20
_SPACE = " \t\n\r"


class Element(NamedTuple):
    """A value with the place of its text; ``value`` is :data:`BROKEN` for a line that is no JSON."""

    offset: int
    length: int
    value: Any


class Broken:
    """The value of a line that is no JSON."""


BROKEN = Broken()


def read_lines(file: BinaryIO) -> Iterator[Element]:
    """Yield an element for each line that is not empty."""
    offset = 0
    for line in file:
        start, offset = offset, offset + len(line)
        if start == 0 and line.startswith(codecs.BOM_UTF8):
            start, line = len(codecs.BOM_UTF8), line[len(codecs.BOM_UTF8) :]
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = BROKEN
        yield Element(start, len(line), value)


def read_list(file: BinaryIO) -> Iterator[Element]:
    """Yield the elements of a list.

    Raises:
        ValueError: the file is no JSON list; the message says where it ends to be one.
    """
    return _List(file).elements()


class _List:
    """A list that is decoded piece by piece; ``_text`` is what has been read and not yet used up."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._ended = file, False
        self._decoder, self._json = codecs.getincrementaldecoder("utf-8")(), json.JSONDecoder()
        self._text, self._at, self._offset = "", 0, 0  # the byte of the file that stands at _text[_at]

    def elements(self) -> Iterator[Element]:
        if self._next() == "\ufeff":
            self._skip(1)
        if self._next() != "[":
            raise ValueError("it holds no list")
        self._skip(1)
        if self._next() != "]":
            yield self._element()
            while (mark := self._next()) == ",":
                self._skip(1)
                self._next()
                yield self._element()
            if mark != "]":
                raise ValueError(f"it is not JSON at byte {self._offset}")
        self._skip(1)
        if self._next():
            raise ValueError(f"it is not JSON at byte {self._offset}: something follows the list")

    def _next(self) -> str:
        """Return the next character that is no space; "" at the end of the file."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._skip(1)
            if not self._more():
                return ""

    def _skip(self, count: int) -> int:
        """Go on by ``count`` characters; return how many bytes they are."""
        passed = self._text[self._at : self._at + count]
        size = len(passed) if passed.isascii() else len(passed.encode())
        self._at += count
        self._offset += size
        return size

    def _more(self) -> bool:
        """Read on, as much again as is waiting; return whether there was anything."""
        if self._ended:
            return False
        waiting = self._text[self._at :]
        read = self._file.read(max(_PIECE_BYTES, len(waiting)))
        self._ended = not read
        self._text, self._at = waiting + self._decoder.decode(read, final=not read), 0
        return True

    def _element(self) -> Element:
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise ValueError(f"the value at byte {self._offset} is nested too deeply") from error
            except ValueError as error:
                if not self._more():
                    raise ValueError(f"it is not JSON at byte {self._offset}: {error}") from error
                continue
            if end < len(self._text) or not self._more():  # a number may go on in the next piece
                offset = self._offset
                return Element(offset, self._skip(end - self._at), value)


def read_elements(path: Path, file: BinaryIO) -> Iterator[Element]:
    """Yield the elements of a ``.jsonl``, one a line, or of a list, which every other name stands for."""
    return read_lines(file) if path.suffix == ".jsonl" else read_list(file)
