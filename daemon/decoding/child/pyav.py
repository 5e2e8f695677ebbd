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
import av.sidedata.sidedata
import numpy as np
from av.codec.hwaccel import HWAccel
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from connectors.errors import Poison, Reason
from daemon.decoding.child.codecs import DECODERS, PROBED, VIDEO, WITH_ALPHA
from daemon.decoding.child.containers import (
    ALLOWED,
    CONTAINERS,
    IMAGES,
    PROTOCOLS,
    format_of,
    is_encrypted,
    is_known,
    other_container,
)
from daemon.decoding.child.hardware import is_decoded
from daemon.decoding.media import HEAD_BYTES, MediaLimits, refuse_playlists

WITH_PIXELS = {"codec_whitelist": ",".join(DECODERS)}
"""For opening a clip so that its stream names the format of its pixels, whatever that takes."""

# A thread of a decoder that had something to say would wait for Python, and Python may wait for the thread.
av.logging.set_level(None)

_ENOUGH_FRAMES = 5  # a stream with fewer than another is a thumbnail beside it, as FFmpeg has it
_DEFAULT_BONUS = 5_000_000  # what a stream's flag as default is worth to ffmpeg, in pixels
_HEADER_ALONE = {"probesize": "32", "analyzeduration": "0"}  # FFmpeg's least: no media is read to find out more
_NEVER_SEEN = (av.stream.Disposition.attached_pic, av.stream.Disposition.timed_thumbnails)


def _unnamed_side_data(cls: Any, value: int) -> Any:
    member = object.__new__(cls)
    member._name_, member._value_ = f"UNNAMED_{value}", value
    return member


# PyAV 18 and 19 refuse all side data of a frame that has one kind without a name there, such as a photo's EXIF.
av.sidedata.sidedata.Type._missing_ = classmethod(_unnamed_side_data)  # type: ignore[assignment, method-assign]

VERSION = f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}"


def import_the_library() -> None:
    """Import every module of PyAV: behind the cage none can be loaded any more."""
    for found in pkgutil.walk_packages(av.__path__, "av."):
        with suppress(ImportError):  # some of them need packages that are not there
            importlib.import_module(found.name)


def open_container(descriptor: int, limits: MediaLimits, hwaccel: Any = None, **more_options: str) -> Any:
    """Open a clip for reading from its start, with the allowed containers and no protocol but the descriptor."""
    head = os.pread(descriptor, HEAD_BYTES, 0)
    refuse_playlists(head)
    os.lseek(descriptor, 0, os.SEEK_SET)
    options = {
        "fd": str(descriptor),
        "format_whitelist": ",".join(CONTAINERS + IMAGES),
        "protocol_whitelist": ",".join(PROTOCOLS),
        "codec_whitelist": ",".join(PROBED),  # what may run while the container is probed
        "max_pixels": str(limits.max_pixels),
        **more_options,
    }
    try:
        return av.open(
            "fd:", mode="r", format=format_of(head), options=options, metadata_errors="replace", hwaccel=hwaccel
        )
    except MemoryError:
        raise Poison(Reason.OVER_BUDGET, "opening it takes more memory than a decoder has") from None
    except Exception as error:
        if other := other_container(head):
            raise Poison(Reason.UNSUPPORTED_CONTAINER, f"{other}; allowed are {ALLOWED}") from error
        if not is_known(head):
            raise Poison(Reason.NOT_A_VIDEO, "no allowed container recognises the bytes") from error
        raise Poison(Reason.CORRUPT, f"the container can't be read: {explain(error)}") from error


def explain(error: Exception) -> str:
    """Return an error of the library in words, without file names."""
    return str(getattr(error, "strerror", None) or type(error).__name__)


def open_video(descriptor: int, limits: MediaLimits, **options: str) -> tuple[Any, Any]:
    """Open a clip and return its container and the stream to caption; several are told apart by reading them."""
    container = open_container(descriptor, limits, **options)
    try:
        streams = _candidates(container)
        if len(streams) > 1:
            best = _best(container, streams)
            container.close()
            container = open_container(descriptor, limits, **options)
            streams = [container.streams[best]]
        _check_codec(streams[0])
        if is_encrypted(descriptor, container.format.name, streams[0].id):
            raise Poison(Reason.ENCRYPTED, "its frames are encrypted")
    except BaseException:
        container.close()
        raise
    return container, streams[0]


def open_on_device(descriptor: int, limits: MediaLimits, stream: Any) -> tuple[Any, Any] | None:
    """Return a clip's container and stream once more, with a decoder on the graphics card; None where it can't."""
    if not is_decoded(stream.codec.canonical_name, stream.codec_context.pix_fmt):
        return None
    try:
        container = open_container(descriptor, limits, hwaccel=HWAccel("cuda"))
    except Poison:  # it was opened a moment ago: it is the card that can't
        return None
    mine = container.streams[stream.index]
    if mine.codec_context.is_hwaccel:
        return container, mine
    container.close()
    return None


def device_fault() -> str:
    """Return why the graphics card decodes nothing, tried on a decoder that has no clip; nothing where it does."""
    try:
        av.CodecContext.create("h264", "r", hwaccel=HWAccel("cuda", allow_software_fallback=False))
    except Exception as error:
        return explain(error)
    return ""


def check_true_size(descriptor: int, limits: MediaLimits) -> None:
    """Ask again without a limit and without decoding: FFmpeg forgets a size that is over its limit.

    Its PNG decoder knows no such mode; there the header says it.
    """
    head = os.pread(descriptor, 24, 0)
    if head[:4] == b"\x89PNG":
        limits.check_size(int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))
        return
    options = {"max_pixels": str(2**31 - 1), "skip_frame": "all"}
    with open_container(descriptor, limits, **options) as container:
        context = _candidates(container)[0].codec_context
        limits.check_size(context.width, context.height)


def _candidates(container: Any) -> list[Any]:
    """Return the video streams, without cover pictures and without thumbnails where there is more."""
    if not len(container.streams):
        raise Poison(Reason.CORRUPT, "what describes its streams can't be read")
    streams = [s for s in container.streams.video if not any(s.disposition & flag for flag in _NEVER_SEEN)]
    if not streams:
        raise Poison(Reason.NO_VIDEO_STREAM, "no video in it")
    return [s for s in streams if s.codec_context is not None and s.codec.canonical_name in VIDEO] or streams


def _best(container: Any, streams: list[Any]) -> int:
    """Return the index of the stream that ffmpeg would take, once those of hardly any frame are set aside."""
    frames = dict.fromkeys((s.index for s in streams), 0)
    for packet in packets_of(container, *streams):
        frames[packet.stream.index] += 1
        if min(frames.values()) >= _ENOUGH_FRAMES:
            break

    def rank(stream: Any) -> tuple[int, int]:
        context = stream.codec_context
        pixels = context.width * context.height if context is not None else 0
        is_default = bool(stream.disposition & av.stream.Disposition.default)
        return min(frames[stream.index], _ENOUGH_FRAMES), pixels + _DEFAULT_BONUS * is_default

    return int(max(streams, key=rank).index)


def _check_codec(stream: Any) -> None:
    if stream.codec_context is None:
        raise Poison(Reason.UNSUPPORTED_CODEC, f"no decoder for its video ({_tag_of(stream) or 'unnamed'})")
    name = stream.codec.canonical_name
    if name not in VIDEO:
        raise Poison(Reason.UNSUPPORTED_CODEC, f"{name} is not among the codecs that are decoded: {', '.join(VIDEO)}")


def _tag_of(stream: Any) -> str:
    """Return the four characters by which the container names the codec."""
    tag = stream.codec_context.codec_tag if stream.codec_context is not None else ""
    return "".join(c for c in str(tag) if c.isprintable())


def table_end(stream: Any) -> int:
    """Return where the last byte of a stream lies by the container's own table, 0 where that lists nothing."""
    return max((entry.pos + entry.size for entry in stream.index_entries), default=0)


def sound_times(descriptor: int, limits: MediaLimits) -> NDArray[np.float64]:
    """Return when the packets of the sound end, in seconds on the container's clock."""
    with open_container(descriptor, limits) as container:
        sounds = container.streams.audio
        ends = (
            float((packet.pts + (packet.duration or 0)) * packet.time_base)
            for packet in (packets_of(container, *sounds) if sounds else ())
            if packet.pts is not None
        )
        return np.fromiter(ends, np.float64)


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
    pass_over_all_but(container, [stream])
    return decoder


def another_decoder(descriptor: int, limits: MediaLimits, stream: Any) -> Any:
    """Return one more decoder of an open clip's stream. Where the clip's container reads on in the file is kept.

    What the container's header says is enough, unless it does not say that frames are stored in another order than they
    are shown, which a decoder needs to know. No frame is decoded to find out what is known.
    """
    at = os.lseek(descriptor, 0, os.SEEK_CUR)
    try:
        container = open_container(descriptor, limits, skip_frame="all", **_HEADER_ALONE)
        if container.streams[stream.index].codec_context.has_b_frames != stream.codec_context.has_b_frames:
            container.close()
            container = open_container(descriptor, limits, skip_frame="all")
        with container:
            return start_decoder(container, container.streams[stream.index], limits, 1)
    finally:
        os.lseek(descriptor, at, os.SEEK_SET)


def pass_over_all_but(container: Any, streams: list[Any]) -> None:
    """Let the demuxer pass over other streams."""
    for other in container.streams:
        if all(other.index != stream.index for stream in streams):
            other.discard = av.stream.Discard.all


def demuxed(container: Any, stream: Any) -> Iterator[Any]:
    """Yield a stream's packets; of a JPEG the picture alone, for what is behind it is none of it."""
    for packet in container.demux(stream):
        if packet.size:  # else it is the end of the stream
            yield packet
            if container.format.name == "jpeg_pipe":
                return


def packets_of(container: Any, *streams: Any) -> Iterator[Any]:
    """Yield packets until the end, or until no more can be read."""
    try:
        for packet in container.demux(*streams):
            if packet.size:
                yield packet
    except Exception:
        return
