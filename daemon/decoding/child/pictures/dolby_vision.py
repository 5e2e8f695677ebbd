"""Dolby Vision in HEVC: which profile a frame is of, by the message that comes with it.

Profiles 7 and 8 lie over a base layer that is HDR10, HLG or SDR and is shown as such; profile 5 has none: its colours
are Dolby's own, and without the reshaping that the message holds they are green and purple.
"""

from typing import Any

from connectors.errors import Poison, Reason
from daemon.decoding.child.codecs import Bits

_PREFIX, _HEADER = 0x19, 2  # of the message; its kind for what is described here


def refuse_without_base_layer(frame: Any) -> str:
    """Return words for a frame that is Dolby Vision's base layer, else nothing; :class:`Poison` where it has none."""
    kinds = frame.side_data
    message = kinds.get("DOVI_RPU_BUFFER")
    if message is not None and _is_profile_5(bytes(message)):
        raise Poison(Reason.UNSUPPORTED_CODEC, "Dolby Vision of profile 5, which has no base layer to be shown")
    return " (the base layer of Dolby Vision)" if message is not None or kinds.get("DOVI_METADATA") is not None else ""


def _is_profile_5(message: bytes) -> bool:
    """Read the message's header: profile 5 is the one of its first format whose signal has the full range."""
    bits = Bits(message.replace(b"\0\0\3", b"\0\0"))
    if bits.take(8) != _PREFIX or bits.take(6) != _HEADER:
        return False
    bits.take(11)  # rpu_format
    if bits.take(4) != 0:  # vdr_rpu_profile
        return False
    bits.take(4)  # vdr_rpu_level
    if not bits.take(1):  # vdr_seq_info_present_flag
        return False
    bits.take(1)  # chroma_resampling_explicit_filter_flag
    if bits.take(2) == 0:  # coefficient_data_type
        bits.take_golomb()  # coefficient_log2_denom
    bits.take(2)  # vdr_rpu_normalized_idc
    return bool(bits.take(1))  # BL_video_full_range_flag
