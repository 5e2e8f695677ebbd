"""The parts of an input, in a form that mutations rarely break: a length is a byte, and any part may be short."""


class Pieces:
    """Reads parts from the front of an input; behind its end every part is empty."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def byte(self) -> int:
        """Return the next byte, or 0."""
        return int.from_bytes(self._cut(1))

    def piece(self) -> bytes:
        """Return the next part: a byte of length, and that many."""
        return self._cut(self.byte())

    def maybe(self) -> bytes | None:
        """Return the next part, or None where its first byte says so."""
        return self.piece() if self.byte() % 4 else None

    def rest(self) -> bytes:
        """Return all that is left."""
        return self._cut(len(self._data))

    def _cut(self, size: int) -> bytes:
        cut = self._data[self._at : self._at + size]
        self._at += len(cut)
        return cut


def joined(*parts: bytes | int | None) -> bytes:
    """Return an input that reads as these parts: a byte, a piece (``maybe`` for None), and bytes as pieces."""
    return b"".join(
        bytes((part,)) if isinstance(part, int) else b"" if part is None else bytes((len(part),)) + part
        for part in parts
    )
