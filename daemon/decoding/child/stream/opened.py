"""A clip's stream, open, with its decoder and what its container and its codec are good for."""

from typing import Any

from daemon.decoding.child.pyav import WITH_PIXELS, another_decoder, open_on_device, open_video, start_decoder
from daemon.decoding.child.stream.av1 import Av1Pictures
from daemon.decoding.child.stream.decoder import Orientations, PixelShapes
from daemon.decoding.child.stream.groups import GroupDecoder
from daemon.decoding.media import MediaLimits

# Decoders that leave out frames that nothing refers to, packet by packet. Others decide once (dav1d) or never.
_SKIPPING_CODECS = ("h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video")
_WHOLE_PACKETS = ("mov", "matroska")  # formats whose packets hold a frame each, and that name the shape of its pixels
_TURNING_CODECS = ("h264", "hevc")
_MOST_SHARED = 2**22  # pixels of a frame, of which several decoders may hold some twenty each


class OpenStream:
    """A stream of the container on a descriptor, or of one that is ``opened``.

    On a graphics card where that is asked for and can be; by several ``threads`` where packets hold a frame each.
    """

    def __init__(
        self,
        descriptor: int,
        limits: MediaLimits,
        threads: int,
        *,
        on_device: bool,
        opened: tuple[Any, Any] | None,
    ) -> None:
        self._descriptor, self._limits = descriptor, limits
        options = WITH_PIXELS if on_device else {}
        self.container, self.stream = opened or open_video(descriptor, limits, **options)
        self.on_device = False
        if on_device:
            there = open_on_device(descriptor, limits, self.stream)
            self.container.close()  # reading on would go wrong: both read from one place in the file
            self.container, self.stream = there or open_video(descriptor, limits)
            self.on_device = there is not None
        codec = self.stream.codec.canonical_name
        is_whole = self.container.format.name.startswith(_WHOLE_PACKETS)
        self.has_frames_apart = is_whole and not self.on_device
        self.threads = threads if self.has_frames_apart else 1
        self.decoder = start_decoder(self.container, self.stream, limits, self.threads)
        self.may_skip = codec in _SKIPPING_CODECS
        self.av1 = Av1Pictures(self.stream.codec_context.extradata) if codec == "av1" and is_whole else None
        self.is_small = self.decoder.width * self.decoder.height <= _MOST_SHARED
        self.shapes = PixelShapes.of(self.container, self.stream)
        self._may_turn = codec in _TURNING_CODECS

    def orientations(self) -> Orientations:
        """Return what notes how frames are turned."""
        return Orientations(may_turn=self._may_turn)

    def group_decoder(self, *, careful: bool) -> GroupDecoder:
        """Return one more decoder, for whole groups; a ``careful`` one decodes every frame."""
        decoder = another_decoder(self._descriptor, self._limits, self.stream)
        return GroupDecoder(decoder, skips=self.may_skip and not careful, may_turn=self._may_turn)
