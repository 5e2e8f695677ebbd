"""The protocol between the program and a decoding child: each message's fields, a block of bytes, and descriptors.

Every message is declared here, with the type and the bounds of each field (:mod:`daemon.decoding.fields`): a new fact
is a new line in its message, written where that message is made and read by its name. On the socket a message is a
number for its kind, two lengths, the fields, and for some a block. Descriptors go with the first byte.

parent -> child   Plan + the clip's descriptor · SendIndex · Forget, which has no answer
                  Decode + [the clip's descriptor] + a memory file a window + [the index]
                  FindShots + [the clip's descriptor] + one of the search's own + [the index]
child -> parent   Ready at the start; Planned + [the index] · Index + the index · Decoded · Shots · Poisoned · Fault,
                  each after any number of Alive; Decoded for each window
"""

import struct
from dataclasses import dataclass
from typing import Annotated, Any

from connectors.errors import Reason
from daemon.decoding.fields import TRUTH, Choice, Clean, Data, Real, Text, Texts, Whole, Wholes, decode, encode
from daemon.decoding.media import MAX_FRAMES, MediaLimits
from daemon.decoding.timeline import Mended
from daemon.frame_look import ON_DEVICE, FrameSize, Look

PREFIX = struct.Struct("<BIQ")  # number of the kind, bytes of the fields, bytes of the block
MAX_ANSWER_BYTES = 64 * 2**10  # the fields of what a child says
MAX_REQUEST_BYTES = 2**20  # the fields of what it is asked
MAX_BLOCK_BYTES = 512 * 2**20  # the index of media.MAX_FRAMES frames takes 340 MB at most
MAX_SMALL_INDEX_BYTES = 64 * 2**10  # it comes with the plan; a larger one is asked for once there is room for it
MAX_DESCRIPTORS = 16
TURN_S = 0.05  # windows that are asked for at once are decoded for so long: other clips wait for their turn
MAX_DETAIL_CHARS = 500
MAX_SECONDS = 1e12
MAX_FRAMES_A_WINDOW = 4096  # the most that frames.num_frames and frames.max_frames allow
_MAX_CUTS = 4096  # of one answer, which looks through some hundred frames

_Session = Annotated[int, Whole(1, 2**62)]
_Decoder = Annotated[str, Choice(("av", "decord", ON_DEVICE))]
_Threads = Annotated[int, Whole(1, 64)]
_Side = Annotated[int, Whole(1, 2**31 - 1)]
_Sides = Annotated[tuple[int, ...], Wholes(1, 2**31 - 1, MAX_DESCRIPTORS)]
_MaxPixels = Annotated[int, Whole(1, 2**62)]
_Seconds = Annotated[float, Real(0, MAX_SECONDS)]
_Layers = Annotated[tuple[str, ...], Texts(16, 200)]
_Detail = Annotated[str, Text(MAX_DETAIL_CHARS)]
_Count = Annotated[int, Whole(0, MAX_FRAMES)]
_Truth = Annotated[bool, TRUTH]
_Name = Annotated[str, Text(200)]


@dataclass(frozen=True, slots=True)
class _OfClip:
    """How a clip is read: by which decoder, within which limits, and how its frames are to look."""

    session: _Session
    decoder: _Decoder
    max_pixels: _MaxPixels
    max_picture_pixels: Annotated[int, Whole(0, 2**62)]
    max_duration_s: _Seconds
    background: Annotated[tuple[int, ...], Wholes(0, 255, 3)]
    tone_map: _Truth

    @property
    def look(self) -> Look:
        """How the frames are to look."""
        red, green, blue = self.background
        return Look((red, green, blue), self.tone_map)

    @property
    def limits(self) -> MediaLimits:
        """The bounds of what the clip may ask for."""
        return MediaLimits(self.max_pixels, self.max_duration_s, max_picture_pixels=self.max_picture_pixels)


def reading(limits: MediaLimits, look: Look) -> dict[str, Any]:
    """Return the fields of a request that say within which limits a clip is read, and how its frames are to look."""
    return {
        "max_pixels": limits.max_pixels,
        "max_picture_pixels": limits.max_picture_pixels,
        "max_duration_s": limits.max_duration_s,
        "background": look.background,
        "tone_map": look.tone_map,
    }


@dataclass(frozen=True, slots=True)
class Plan(_OfClip):
    """Read a clip's packets and say what to plan from. So many ``threads`` may decode it."""

    threads: _Threads = 1


@dataclass(frozen=True, slots=True)
class Decode(_OfClip):
    """Decode until window ``target`` is complete, and then the next one, until there are ``targets``.

    With ``opens`` the child gets the clip first, and its index.
    ``width`` and ``height`` are those of the clip's frames as they are. Each of ``windows`` comes with a memory file,
    shows as many of ``frame_indices`` as ``counts`` says, and takes them scaled to its own of ``widths`` and
    ``heights``; ``wanted`` are the frames that come next. So many ``threads`` may decode them.
    """

    opens: _Truth
    width: _Side
    height: _Side
    target: Annotated[int, Whole(0, 2**31 - 1)]
    targets: Annotated[int, Whole(1, MAX_DESCRIPTORS)]
    windows: Annotated[tuple[int, ...], Wholes(0, 2**31 - 1, MAX_DESCRIPTORS)]
    counts: Annotated[tuple[int, ...], Wholes(1, MAX_FRAMES_A_WINDOW, MAX_DESCRIPTORS)]
    widths: _Sides
    heights: _Sides
    frame_indices: Annotated[tuple[int, ...], Wholes(0, MAX_FRAMES, MAX_DESCRIPTORS * MAX_FRAMES_A_WINDOW)]
    wanted: Annotated[tuple[int, ...], Wholes(0, MAX_FRAMES, MAX_DESCRIPTORS * MAX_FRAMES_A_WINDOW)]
    threads: _Threads = 1

    @property
    def new_windows(self) -> list[tuple[int, list[int], FrameSize]]:
        """Each new window with the indices of its frames, and their size."""
        found, at = [], 0
        for window, count, *size in zip(self.windows, self.counts, self.widths, self.heights, strict=True):
            found.append((window, list(self.frame_indices[at : at + count]), FrameSize(*size)))
            at += count
        return found


@dataclass(frozen=True, slots=True)
class FindShots(_OfClip):
    """Look for cuts until those before frame ``until`` are known; those before ``known`` are. ``opens`` as above.

    ``min_ns`` is the length of the shortest shot that matters.
    """

    opens: _Truth
    width: _Side
    height: _Side
    known: _Count
    until: _Count
    sensitivity: Annotated[float, Real(0, 1)]
    min_ns: Annotated[int, Whole(1, 2**62)]


@dataclass(frozen=True, slots=True)
class SendIndex:
    """Send the index of a clip that was planned, which was too large to come with the plan."""

    session: _Session


@dataclass(frozen=True, slots=True)
class Forget:
    """Close a clip."""

    session: _Session


@dataclass(frozen=True, slots=True)
class Ready:
    """The cage is closed. ``missing`` has a reason for each of the layers, empty where that is there.

    Without ``confined`` the machine lacks a layer that is required, and the child ends. ``device_fault`` says why no
    graphics card decodes; nothing where one does, or none was asked for.
    """

    layers: _Layers
    missing: _Layers
    decoder: _Name
    confined: _Truth
    device_fault: _Name = ""


@dataclass(frozen=True, slots=True)
class Alive:
    """A sign of life."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The facts about a clip, and with them its index where that is small.

    ``width`` and ``height`` are those of its frames, upright and with square pixels, within the limits on what is
    handed on; ``declared_s`` is the container's word, 0 where it has none; ``failure`` says why reading ended early.
    ``media_start_ns`` is the first frame's time on the container's clock, from where that starts. The rest, from
    ``jumps_back`` on, says what was mended (:class:`daemon.decoding.timeline.Mended`). ``packets`` and
    ``index_bytes`` are the size of the index, which the worker fills in; a large one is asked for by ``SendIndex``
    once there is room for it.
    """

    codec: _Name
    container: _Name
    width: _Side
    height: _Side
    declared_s: _Seconds
    truncated: _Truth
    failure: _Name
    media_start_ns: Annotated[int, Whole(0, 2**62)] = 0
    jumps_back: _Count = 0
    jumps_ahead: _Count = 0
    filled: _Count = 0
    reordered: _Truth = False
    by_rate: _Truth = False
    held: _Truth = False
    packets: Annotated[int, Whole(1, MAX_FRAMES)] = 1
    index_bytes: Annotated[int, Whole(1, MAX_BLOCK_BYTES)] = 1

    @property
    def mended(self) -> Mended:
        """What was mended in the clip's times."""
        return Mended(self.jumps_back, self.jumps_ahead, self.filled, self.reordered, self.by_rate, self.held)


@dataclass(frozen=True, slots=True)
class Index:
    """A large index."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The frames that a target shows, -1 where there is none. Without ``more``, other targets stay undone for now."""

    shown: Annotated[tuple[int, ...], Wholes(-1, MAX_FRAMES, MAX_FRAMES_A_WINDOW)]
    decode_ms: Annotated[float, Real(0, 1e12)]
    on_device: _Truth = False
    more: _Truth = False


@dataclass(frozen=True, slots=True)
class Shots:
    """The frames that begin a shot, from the one asked for on, and before which frame all are known."""

    cuts: Annotated[tuple[int, ...], Wholes(1, MAX_FRAMES, _MAX_CUTS)]
    looked: _Count


@dataclass(frozen=True, slots=True)
class Poisoned:
    """The clip can't be captioned."""

    reason: Annotated[Reason, Choice(tuple(Reason))]
    detail: _Detail


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that the child did not foresee."""

    detail: _Detail


Asked = Plan | SendIndex | Decode | FindShots
Request = Asked | Forget
Answer = Ready | Alive | Planned | Index | Decoded | Shots | Poisoned | Fault
REQUESTS: tuple[type[Request], ...] = (Plan, SendIndex, Decode, Forget, FindShots)
ANSWERS: tuple[type[Answer], ...] = (Ready, Alive, Planned, Index, Decoded, Poisoned, Fault, Shots)
_BLOCK_BYTES = {
    Planned: MAX_SMALL_INDEX_BYTES,
    Index: MAX_BLOCK_BYTES,
    Decode: MAX_BLOCK_BYTES,
    FindShots: MAX_BLOCK_BYTES,
}


@dataclass(frozen=True, slots=True)
class Announced:
    """A message of which only the prefix has been read. Its sizes are within the bounds of its kind."""

    kind: type[Any]
    header_bytes: int
    block_bytes: int


def pack(message: Request | Answer, block: Data = b"") -> bytes:
    """Return one message as bytes."""
    return announce(message, len(block)) + block


def announce(message: Request | Answer, block_bytes: int) -> bytes:
    """Return one message but for the block that follows."""
    kinds: tuple[type, ...] = REQUESTS if isinstance(message, Request) else ANSWERS
    header = encode(message)
    return PREFIX.pack(kinds.index(type(message)), len(header), block_bytes) + header


def unpack_prefix(prefix: Data, kinds: tuple[type[Any], ...]) -> Announced:
    """Return what is announced; ``ValueError`` when it is none of these kinds, or a size is out of its bounds."""
    if len(prefix) != PREFIX.size:
        raise ValueError(f"a prefix of {len(prefix)} bytes")
    number, header_bytes, block_bytes = PREFIX.unpack(prefix)
    if number >= len(kinds):
        raise ValueError(f"no message has the number {number}")
    kind = kinds[number]
    most = MAX_REQUEST_BYTES if kind in REQUESTS else MAX_ANSWER_BYTES
    if header_bytes > most or block_bytes > _BLOCK_BYTES.get(kind, 0):
        raise ValueError(f"a message of {header_bytes} + {block_bytes} bytes")
    return Announced(kind, header_bytes, block_bytes)


def unpack_answer(announced: Announced, header: Data, clean: Clean) -> Answer:
    """Return an answer with its texts cleaned; ``ValueError`` when its fields make none."""
    answer: Answer = decode(announced.kind, header, clean)
    return answer
