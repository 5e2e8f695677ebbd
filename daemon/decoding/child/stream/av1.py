"""The headers of AV1, as far as they say which frames no other refers to."""

from collections.abc import Iterator
from dataclasses import dataclass

from daemon.decoding.child.codecs import Bits

_SEQUENCE, _HEADER, _FRAME, _REDUNDANT_HEADER = 1, 3, 6, 7  # kinds of AV1's units
_CHOSEN_BY_FRAME = 2


@dataclass(frozen=True, slots=True)
class _Av1Sequence:
    """What the header of an AV1 sequence says about those of its frames (AV1, 5.5.1)."""

    screen_content: int
    whole_motion: int
    order_bits: int

    @classmethod
    def of(cls, data: bytes) -> "_Av1Sequence | None":
        """Read it; None for streams whose frames have more in their headers than is read here."""
        bits = Bits(data, 64)
        bits.take(4)
        if bits.take(1):  # reduced_still_picture_header
            return None
        if bits.take(1):  # timing_info_present_flag
            bits.take(64)
            if bits.take(1):  # equal_picture_interval
                bits.take_golomb()
            if bits.take(1):  # decoder_model_info_present_flag
                return None
        _pass_over_operating_points(bits)
        width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
        bits.take(width_bits + height_bits)
        if bits.take(1):  # frame_id_numbers_present_flag
            return None
        bits.take(7)
        has_order = bits.take(1)
        if has_order:
            bits.take(2)
        screen_content = _CHOSEN_BY_FRAME if bits.take(1) else bits.take(1)
        whole_motion = _CHOSEN_BY_FRAME
        if screen_content and not bits.take(1):
            whole_motion = bits.take(1)
        return cls(screen_content, whole_motion, bits.take(3) + 1 if has_order else 0)

    def keeps_nothing_of(self, frame: bytes) -> bool:
        """Return whether no later frame refers to the one whose header this is (AV1, 5.9.2)."""
        bits = Bits(frame, 16)
        if bits.take(1) or bits.take(2) != 1 or not bits.take(1):  # shown before, no inter frame, or not shown
            return False
        is_resilient = bits.take(1)
        bits.take(1)
        screen_content = bits.take(1) if self.screen_content == _CHOSEN_BY_FRAME else self.screen_content
        if screen_content and self.whole_motion == _CHOSEN_BY_FRAME:
            bits.take(1)
        bits.take(1 + self.order_bits + (0 if is_resilient else 3))
        return bits.take(8) == 0  # refresh_frame_flags


def _pass_over_operating_points(bits: Bits) -> None:
    has_delays = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if has_delays and bits.take(1):
            bits.take(4)


class Av1Pictures:
    """Which packets of an AV1 stream hold one picture alone that nothing refers to: dav1d decides once, not for each.

    In doubt it is one that others refer to.
    """

    def __init__(self, configuration: bytes | None) -> None:
        self._sequence: _Av1Sequence | None = None
        self.is_unreferenced(memoryview((configuration or b"")[4:]))

    def is_unreferenced(self, packet: memoryview) -> bool:
        """Look at the next packet."""
        frames, is_free = 0, False
        for kind, unit in _av1_units(packet):
            if kind == _SEQUENCE:
                self._sequence = _Av1Sequence.of(bytes(unit[:64]))
            elif kind in (_HEADER, _FRAME, _REDUNDANT_HEADER):
                frames += 1
                is_free = self._sequence is not None and self._sequence.keeps_nothing_of(bytes(unit[:16]))
        return frames == 1 and is_free


def _av1_units(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield kind and content of each unit (AV1, 5.3); of scalable streams and of what is damaged a frame too many."""
    at = 0
    while at < len(data):
        header, at = data[at], at + 1
        if header & 0x84:  # forbidden_bit, extension_flag
            yield from ((_HEADER, data[:0]), (_HEADER, data[:0]))
            return
        size, shift = len(data) - at, 0
        if header & 2:  # has_size_field
            size = 0
            while at < len(data) and shift < 35:
                byte, at = data[at], at + 1
                size |= (byte & 0x7F) << shift
                shift += 7
                if not byte & 0x80:
                    break
        yield header >> 3 & 15, data[at : at + size]
        at += size
