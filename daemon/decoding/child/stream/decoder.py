"""A stream's decoder at work: packets in, frames out, and what a frame of it looks like.

``Exception`` is caught on purpose: damaged packets make PyAV raise others beside its own errors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from connectors.errors import Poison, Reason
from daemon.decoding.child.containers import IMAGES
from daemon.decoding.child.pixels import Orientation, orientation_of
from daemon.decoding.child.pyav import packets_of, start_decoder
from daemon.decoding.media import MediaLimits


class DamageError(Exception):
    """A packet that the decoder refuses, or a frame of it that is not whole."""


@dataclass(slots=True)
class Note:
    """What the decoder held when a packet had been decoded, and how the packet's frame is turned."""

    sample_aspect: Any = None
    orientation: Any = None


class Orientations:
    """How frames are turned: a message in H.264 or HEVC stands at its group's start and holds for all of it."""

    def __init__(self, *, may_turn: bool) -> None:
        self._may_turn, self._newest, self._degrees = may_turn, Orientation(), 0

    def note(self, frame: Any) -> None:
        """Write down how the next frame of a decoder is turned, in the note that it carries."""
        if not self._may_turn or not (note := frame.opaque):
            return
        # PyAV's side data and its frame hold each other, and a picture that only the collector frees is not used
        # again by the decoder: side data is asked for where it can say something new.
        degrees = frame.rotation
        if frame.key_frame or degrees not in (0, self._degrees):
            own = orientation_of(frame)
            if frame.key_frame or own != Orientation():
                self._newest, self._degrees = own, degrees
        note.orientation = self._newest

    @staticmethod
    def of(frame: Any) -> Orientation:
        """Return how a frame is turned."""
        noted: Orientation | None = frame.opaque.orientation if frame.opaque else None
        return noted or orientation_of(frame)


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


@dataclass(frozen=True, slots=True)
class PixelShapes:
    """The shape of frames' pixels: what the container says has the say where it is the whole clip's.

    Pictures that stand alone have square pixels, as viewers show them: what they say is a density for printing. A
    stream is asked once: it is gone when its container is closed, and frames outlive that.
    """

    are_square: bool
    has_the_say: bool
    of_stream: Any

    @classmethod
    def of(cls, container: Any, stream: Any) -> "PixelShapes":
        """Return those of a stream's frames."""
        name, aspect = container.format.name, stream.sample_aspect_ratio
        return cls(name in IMAGES, name.startswith(("mov", "matroska")) and bool(aspect), aspect)

    def of_frame(self, frame: Any) -> Any:
        """Return the shape of a frame's pixels, width to height; None where nothing says it."""
        if self.are_square:
            return None
        if self.has_the_say:
            return self.of_stream
        return (frame.opaque.sample_aspect if frame.opaque else None) or self.of_stream


def decode_by_place(container: Any, stream: Any, limits: MediaLimits) -> Iterator[Any]:
    """Yield every frame that the decoder gives, in order of presentation; its time stamp is its packet's place."""
    decoder = start_decoder(container, stream, limits, 1)
    for place, packet in enumerate(packets_of(container, stream)):
        packet.pts = packet.dts = place
        yield from decode_packet(decoder, packet)
    yield from decode_packet(decoder, None)
