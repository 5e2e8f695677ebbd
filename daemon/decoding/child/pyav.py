"""PyAV, and the only file that imports it.

Every error of the library is translated here. ``Exception`` is caught on purpose: damaged files make PyAV raise
``UnicodeDecodeError``, ``MemoryError`` and others beside its own.
"""

import importlib
import os
import pkgutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import av
import av.logging
import av.sidedata.sidedata
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from connectors.errors import Poison, Reason
from daemon.decoding.child.codecs import DECODERS, VIDEO, WITH_ALPHA
from daemon.decoding.child.containers import CONTAINERS, IMAGES, PROTOCOLS, format_of, is_known
from daemon.decoding.media import HEAD_BYTES, MediaLimits, refuse_playlists

av.logging.set_level(av.logging.PANIC)


def _unnamed_side_data(cls: Any, value: int) -> Any:
    member = object.__new__(cls)
    member._name_, member._value_ = f"UNNAMED_{value}", value
    return member


# PyAV 18 and 19 refuse all side data of a frame that has one kind without a name there, such as a photo's EXIF.
av.sidedata.sidedata.Type._missing_ = classmethod(_unnamed_side_data)  # type: ignore[assignment, method-assign]

VERSION = f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}"


@dataclass(slots=True)
class Note:
    """What the decoder held when a packet had been decoded, and how the packet's frame is turned."""

    sample_aspect: Any = None
    orientation: Any = None


def import_the_library() -> None:
    """Import every module of PyAV: behind the cage none can be loaded any more."""
    for found in pkgutil.walk_packages(av.__path__, "av."):
        with suppress(ImportError):  # some of them need packages that are not there
            importlib.import_module(found.name)


def open_container(descriptor: int, limits: MediaLimits, **more_options: str) -> Any:
    """Open a clip for reading from its start, with the allowed containers and no protocol but the descriptor."""
    head = os.pread(descriptor, HEAD_BYTES, 0)
    refuse_playlists(head)
    os.lseek(descriptor, 0, os.SEEK_SET)
    options = {
        "fd": str(descriptor),
        "format_whitelist": ",".join(CONTAINERS + IMAGES),
        "protocol_whitelist": ",".join(PROTOCOLS),
        "codec_whitelist": ",".join(DECODERS),  # what may run while the container is probed
        "max_pixels": str(limits.max_pixels),
        **more_options,
    }
    try:
        return av.open("fd:", mode="r", format=format_of(head), options=options, metadata_errors="replace")
    except MemoryError:
        raise Poison(Reason.OVER_BUDGET, "opening it takes more memory than a decoder has") from None
    except Exception as error:
        if not is_known(head):
            raise Poison(Reason.NOT_A_VIDEO, "no allowed container recognises the bytes") from error
        raise Poison(Reason.CORRUPT, f"the container can't be read: {explain(error)}") from error


def explain(error: Exception) -> str:
    """Return an error of the library in words, without file names."""
    return str(getattr(error, "strerror", None) or type(error).__name__)


def video_stream(container: Any) -> Any:
    """Return the stream to caption; cover pictures do not count."""
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not len(container.streams):
        raise Poison(Reason.CORRUPT, "what describes its streams can't be read")
    if not streams:
        raise Poison(Reason.NO_VIDEO_STREAM, "no video in it")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise Poison(Reason.UNSUPPORTED_CODEC, "no decoder for its video")
    if stream.codec.canonical_name not in VIDEO:
        raise Poison(
            Reason.UNSUPPORTED_CODEC, f"{stream.codec.canonical_name} is not among the codecs that are decoded"
        )
    return stream


def new_scaler() -> Any:
    """Return what scales and converts frames; one for each clip, since it keeps what it worked out."""
    return VideoReformatter()


def start_decoder(container: Any, stream: Any, limits: MediaLimits, threads: int) -> Any:
    """Return a stream's decoder, set up before its first packet, and let the demuxer pass over the other streams."""
    decoder = stream.codec_context
    if stream.metadata.get("alpha_mode") == "1" and decoder.name in WITH_ALPHA:
        decoder = av.CodecContext.create(WITH_ALPHA[decoder.name], "r")
    decoder.options = {"max_pixels": str(limits.max_pixels)}
    decoder.thread_count = threads
    decoder.thread_type = "AUTO"
    decoder.copy_opaque = True
    try:
        decoder.open(strict=False)
    except Exception as error:
        raise Poison(Reason.CORRUPT, f"its decoder can't be set up: {explain(error)}") from error
    for other in container.streams:
        if other.index != stream.index:
            other.discard = av.stream.Discard.all
    return decoder


def packets_of(container: Any, *streams: Any) -> Iterator[Any]:
    """Yield packets until the end, or until no more can be read."""
    try:
        for packet in container.demux(*streams):
            if packet.size:
                yield packet
    except Exception:
        return


def decode_packet(decoder: Any, packet: Any | None) -> list[Any]:
    """Return the frames that a packet completes, none when the decoder refuses it; ``None`` empties the decoder.

    Frames may come out packets later: each carries the note of its own packet as ``opaque``.
    """
    note = Note()
    try:
        if packet is not None:
            packet.opaque = note
        frames = [frame for frame in decoder.decode(packet) if not frame.is_corrupt]
        note.sample_aspect = decoder.sample_aspect_ratio
        return frames
    except MemoryError:
        raise Poison(Reason.OVER_BUDGET, "decoding it takes more memory than a decoder has") from None
    except Exception:
        return []


def decode_all(container: Any, stream: Any, limits: MediaLimits) -> Iterator[Any]:
    """Yield every frame that the decoder gives, in order of presentation."""
    decoder = start_decoder(container, stream, limits, 1)
    for packet in packets_of(container, stream):
        yield from decode_packet(decoder, packet)
    yield from decode_packet(decoder, None)


def sample_aspect_of(container: Any, stream: Any, frame: Any) -> Any:
    """Return the shape of a frame's pixels: what the container says has the say where it is the whole clip's.

    Pictures that stand alone have square pixels, as viewers show them: what they say is a density for printing.
    """
    if container.format.name in IMAGES:
        return None
    if container.format.name.startswith(("mov", "matroska")) and stream.sample_aspect_ratio:
        return stream.sample_aspect_ratio
    return (frame.opaque.sample_aspect if frame.opaque else None) or stream.sample_aspect_ratio


def decode_items(descriptor: int, items: tuple[int, ...], limits: MediaLimits) -> Iterator[tuple[int, Any]]:
    """Yield the frame of each item of a HEIC or AVIF file and its place among ``items``; all of them, in any order."""
    missing = dict(enumerate(items))
    with open_container(descriptor, limits) as container:
        streams = [stream for stream in container.streams.video if stream.id in items]
        for stream in container.streams:
            if stream not in streams:
                stream.discard = av.stream.Discard.all
        for packet in packets_of(container, *streams) if streams else ():
            for frame in _decode_alone(packet, limits):
                for place in [place for place, item in missing.items() if item == packet.stream.id]:
                    del missing[place]
                    yield place, frame
    if missing:
        raise Poison(Reason.CORRUPT, f"{len(missing)} of the picture's {len(items)} parts can't be decoded")


def _decode_alone(packet: Any, limits: MediaLimits) -> list[Any]:
    context = packet.stream.codec_context
    if context is None or context.codec.canonical_name not in VIDEO:
        return []
    decoder = av.CodecContext.create(context.name, "r")
    decoder.extradata = context.extradata
    decoder.options = {"max_pixels": str(limits.max_pixels)}
    decoder.thread_count = 1
    return (decode_packet(decoder, packet) + decode_packet(decoder, None))[:1]


def frame_of(pixels: NDArray[Any]) -> Any:
    """Return ``uint8`` or ``uint16[H, W, 3]`` as a frame."""
    if pixels.dtype == np.uint8:
        return av.VideoFrame.from_numpy_buffer(pixels, format="rgb24")
    return av.VideoFrame.from_ndarray(pixels, format="rgb48le")
