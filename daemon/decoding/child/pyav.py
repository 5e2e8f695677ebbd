"""PyAV, and the only file that imports it.

Every error of the library is translated here. ``Exception`` is caught on purpose: damaged files make PyAV raise
``UnicodeDecodeError``, ``MemoryError`` and others beside its own.
"""

import importlib
import os
import pkgutil
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import av
import av.logging
from av.video.reformatter import VideoReformatter

from connectors.errors import Poison, Reason
from daemon.decoding.child.codecs import DECODERS, VIDEO
from daemon.decoding.child.containers import CONTAINERS, IMAGES, PROTOCOLS, is_known
from daemon.decoding.media import HEAD_BYTES, MediaLimits, refuse_playlists

av.logging.set_level(av.logging.PANIC)

VERSION = f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}"


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
        return av.open("fd:", mode="r", options=options, metadata_errors="replace")
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


def start_decoder(container: Any, stream: Any, limits: MediaLimits, threads: int) -> None:
    """Set a stream's decoder up before its first packet, and let the demuxer pass over the other streams."""
    stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
    stream.codec_context.thread_count = threads
    stream.codec_context.thread_type = "AUTO"
    try:
        stream.codec_context.open(strict=False)
    except Exception as error:
        raise Poison(Reason.CORRUPT, f"its decoder can't be set up: {explain(error)}") from error
    for other in container.streams:
        if other.index != stream.index:
            other.discard = av.stream.Discard.all


def packets_of(container: Any, stream: Any) -> Iterator[Any]:
    """Yield packets until the end, or until no more can be read."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except Exception:
        return


def decode_packet(stream: Any, packet: Any | None) -> list[Any]:
    """Return the frames that a packet completes, none when the decoder refuses it; ``None`` empties the decoder."""
    try:
        return [frame for frame in stream.codec_context.decode(packet) if not frame.is_corrupt]
    except MemoryError:
        raise Poison(Reason.OVER_BUDGET, "decoding it takes more memory than a decoder has") from None
    except Exception:
        return []


def decode_all(container: Any, stream: Any, limits: MediaLimits) -> Iterator[Any]:
    """Yield every frame that the decoder gives, in order of presentation."""
    start_decoder(container, stream, limits, 1)
    for packet in packets_of(container, stream):
        yield from decode_packet(stream, packet)
    yield from decode_packet(stream, None)
