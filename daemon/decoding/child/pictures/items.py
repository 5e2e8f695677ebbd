"""The coded items of a HEIC or AVIF file, each of them decoded by itself."""

from collections.abc import Iterator
from typing import Any

from connectors.errors import Poison, Reason
from daemon.decoding.child.codecs import VIDEO
from daemon.decoding.child.pyav import open_container, packets_of, pass_over_all_but
from daemon.decoding.child.stream.decoder import decode_packet
from daemon.decoding.media import MediaLimits


def decode_items(descriptor: int, items: tuple[int, ...], limits: MediaLimits) -> Iterator[tuple[int, Any]]:
    """Yield the frame of each item and its place among ``items``; all of them, in any order."""
    missing = dict(enumerate(items))
    with open_container(descriptor, limits) as container:
        streams = [stream for stream in container.streams.video if stream.id in items]
        pass_over_all_but(container, streams)
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
    decoder = context.create(context.name, "r")
    decoder.extradata = context.extradata
    decoder.options = {"max_pixels": str(limits.max_pixels)}
    decoder.thread_count = 1
    return (decode_packet(decoder, packet) + decode_packet(decoder, None))[:1]
