"""A stream's decoder at work: packets in, frames out, and what a frame of it looks like.

``Exception`` is caught on purpose: damaged packets make PyAV raise others beside its own errors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from connectors.errors import Poison, Reason
from daemon.decoding.child.containers import IMAGES
from daemon.decoding.child.pyav import packets_of, start_decoder
from daemon.decoding.media import MediaLimits


class DamageError(Exception):
    """A packet that the decoder refuses, or a frame of it that is not whole."""


@dataclass(slots=True)
class Note:
    """What the decoder held when a packet had been decoded, and how the packet's frame is turned."""

    sample_aspect: Any = None
    orientation: Any = None


def decode_packet(decoder: Any, packet: Any | None) -> list[Any]:
    """Return the frames that a packet completes, none when the decoder refuses it; ``None`` empties the decoder.

    Frames may come out packets later: each carries the note of its own packet as ``opaque``.
    """
    try:
        return [frame for frame in _decode(decoder, packet) if not frame.is_corrupt]
    except DamageError:
        return []


def decode_undamaged(decoder: Any, packet: Any | None) -> list[Any]:
    """Return the same; :class:`DamageError` where a packet or a frame is damaged.

    Threads that decode a frame each report damage late, and make up for it otherwise than one thread does.
    """
    frames = _decode(decoder, packet)
    if any(frame.is_corrupt for frame in frames):
        raise DamageError
    return frames


def _decode(decoder: Any, packet: Any | None) -> list[Any]:
    note = Note()
    try:
        if packet is not None:
            packet.opaque = note
        frames: list[Any] = decoder.decode(packet)
        note.sample_aspect = decoder.sample_aspect_ratio
        return frames
    except MemoryError:
        raise Poison(Reason.OVER_BUDGET, "decoding it takes more memory than a decoder has") from None
    except Exception as error:
        raise DamageError from error


def sample_aspect_of(container: Any, stream: Any, frame: Any) -> Any:
    """Return the shape of a frame's pixels: what the container says has the say where it is the whole clip's.

    Pictures that stand alone have square pixels, as viewers show them: what they say is a density for printing.
    """
    if container.format.name in IMAGES:
        return None
    if container.format.name.startswith(("mov", "matroska")) and stream.sample_aspect_ratio:
        return stream.sample_aspect_ratio
    return (frame.opaque.sample_aspect if frame.opaque else None) or stream.sample_aspect_ratio


def decode_by_place(container: Any, stream: Any, limits: MediaLimits) -> Iterator[Any]:
    """Yield every frame that the decoder gives, in order of presentation; its time stamp is its packet's place."""
    decoder = start_decoder(container, stream, limits, 1)
    for place, packet in enumerate(packets_of(container, stream)):
        packet.pts = packet.dts = place
        yield from decode_packet(decoder, packet)
    yield from decode_packet(decoder, None)
