"""Numbers, plan hashes and topics' ids, packed into the few bytes that a commit's metadata has."""

import base64


def put_number(raw: bytearray, number: int) -> None:
    """Append a number as LEB128."""
    while number > 0x7F:
        raw.append(number & 0x7F | 0x80)
        number >>= 7
    raw.append(number)


def pack_hash(plan_hash: str) -> bytes:
    """Return a length and the hash; hexadecimal digits, which hashes are, take half a byte each."""
    try:
        packed, is_hex = bytes.fromhex(plan_hash), 1
    except ValueError:
        packed, is_hex = plan_hash.encode(), 0
    if is_hex and packed.hex() != plan_hash:
        packed, is_hex = plan_hash.encode(), 0
    raw = bytearray()
    put_number(raw, len(packed) << 1 | is_hex)
    return bytes(raw) + packed


def pack_topic_id(topic_id: str) -> bytes:
    """Return a length and the id of a topic, which Kafka prints in base64 without padding; empty is no id."""
    packed = base64.urlsafe_b64decode(topic_id + "==") if topic_id else b""
    raw = bytearray()
    put_number(raw, len(packed))
    return bytes(raw) + packed


class PackedReader:
    """What was packed, read from its start; :class:`IndexError` where it ends early or goes on after its end."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 0

    def take(self, length: int) -> bytes:
        """Return the next bytes."""
        if self._at + length > len(self._raw):
            raise IndexError("it ends early")
        self._at += length
        return self._raw[self._at - length : self._at]

    def number(self) -> int:
        """Return a number in LEB128."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise IndexError("a number has no end")

    def plan_hash(self) -> str:
        """Return a plan hash."""
        mixed = self.number()
        packed = self.take(mixed >> 1)
        return packed.hex() if mixed & 1 else packed.decode()

    def topic_id(self) -> str:
        """Return a topic's id; empty where there is none."""
        return base64.urlsafe_b64encode(self.take(self.number())).decode("ascii").rstrip("=")

    def finish(self) -> None:
        """Refuse what goes on."""
        if self._at != len(self._raw):
            raise IndexError("it goes on after its end")
