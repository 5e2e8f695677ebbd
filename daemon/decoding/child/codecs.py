"""The codecs that are decoded, each for a reason: what nobody sends is not worth the code that would read it.

FFmpeg has some five hundred decoders, and faults are found in the rare ones (magicyuv's in 2026, CVE-2026-8461).
"""

VIDEO = {
    "h264": "what cameras, phones and the web record",
    "hevc": "what cameras and phones record since 2015",
    "av1": "the web",
    "vp9": "the web",
    "vp8": "WebM and WebRTC recordings",
    "mpeg4": "DivX and Xvid, older phones and cameras",
    "msmpeg4v2": "older AVI",
    "msmpeg4v3": "older AVI",
    "h263": "3GP of older phones",
    "flv1": "older web video",
    "mpeg1video": "video CDs",
    "mpeg2video": "broadcast and DVD",
    "vc1": "Blu-ray",
    "wmv1": "older Windows Media",
    "wmv2": "older Windows Media",
    "wmv3": "Windows Media in AVI and Matroska",
    "theora": "free video before WebM",
    "mjpeg": "JPEG pictures, and cameras that send them",
    "prores": "editing",
    "dnxhd": "editing",
    "dvvideo": "camcorders",
    "ffv1": "archives",
    "huffyuv": "lossless capture",
    "ffvhuff": "lossless capture",
    "rawvideo": "uncompressed capture",
    "png": "pictures",
    "apng": "pictures that move",
    "gif": "pictures that move",
    "bmp": "pictures",
    "webp": "pictures",
}
"""Why each is decoded, by FFmpeg's name for the codec."""

_DECODERS = {"av1": ("libdav1d", "libaom-av1", "av1"), "vp8": ("vp8", "libvpx"), "vp9": ("vp9", "libvpx-vp9")}
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""The decoders for streams whose alpha lies beside them in WebM, which FFmpeg's own pass over."""

_SOUND = (
    *("aac", "aac_latm", "ac3", "eac3", "alac", "amrnb", "amrwb", "flac", "mp2", "mp2float", "mp3", "mp3float"),
    *(
        "opus",
        "libopus",
        "vorbis",
        "libvorbis",
        "pcm_s16le",
        "pcm_s16be",
        "pcm_s24le",
        "pcm_u8",
        "pcm_alaw",
        "pcm_mulaw",
    ),
)

DECODERS = (*(name for codec in VIDEO for name in _DECODERS.get(codec, (codec,))), *_SOUND)
"""The names of the decoders: those of sound only say when a stream ends, and a container may not open without them."""

PROBED = tuple(name for name in DECODERS if name not in ("vp9", "libvpx-vp9"))
"""Those that run while a container is probed: of VP9 its header says enough, and decoding a picture takes its time."""


class Bits:
    """Numbers from bits, the highest first; zeros behind the end. Of long data the start alone is read."""

    def __init__(self, data: bytes, most_bytes: int = 32) -> None:
        self._bits = "".join(f"{byte:08b}" for byte in data[:most_bytes]).ljust(16 * most_bytes, "0")
        self._at = 0

    def take(self, count: int) -> int:
        self._at += count
        return int(self._bits[self._at - count : self._at] or "0", 2)

    def take_golomb(self) -> int:
        zeros = self._bits.find("1", self._at) - self._at
        if not 0 <= zeros <= 32:
            return 0
        self.take(zeros)
        return self.take(zeros + 1) - 1


_VOP = b"\0\0\1\xb6"  # the start of a picture in MPEG-4 part 2
_ORDER_UNKNOWN = ("hevc", "vc1", "wmv3")  # whose B-frames a few bytes do not tell


def may_reorder(codec: str, packet: memoryview) -> bool:
    """Return whether a packet holds a B-frame, so that frames are shown in another order than they are stored in."""
    if codec == "h264":
        return _has_b_slice(bytes(packet[:4096]))
    if codec == "mpeg4":  # the coding type of each VOP
        return any(byte >> 6 == 2 for byte in _after(bytes(packet), _VOP))
    if codec in ("mpeg1video", "mpeg2video"):  # the second byte of a picture's header: temporal reference, coding type
        return any(byte >> 3 & 7 == 3 for byte in _after(bytes(packet), b"\0\0\1\0", 1))
    return codec in _ORDER_UNKNOWN


def is_packed(codec: str, packet: memoryview) -> bool:
    """Return whether a packet holds two pictures, as DivX and Xvid pack B-frames: each but the first waits its turn."""
    return codec == "mpeg4" and bytes(packet).count(_VOP) > 1


def _after(data: bytes, mark: bytes, skip: int = 0) -> list[int]:
    found, at = [], data.find(mark)
    while at >= 0 and at + len(mark) + skip < len(data):
        found.append(data[at + len(mark) + skip])
        at = data.find(mark, at + len(mark))
    return found


def _has_b_slice(data: bytes) -> bool:
    """Read the type of the first slice, behind start codes or lengths of four bytes."""
    at = data.find(b"\0\0\1") + 3
    with_codes = at in (3, 4)
    if not with_codes:
        at = 4
    while 0 < at < len(data) - 1:
        if data[at] & 0x1F in (1, 2, 5):
            bits = int.from_bytes(data[at + 1 : at + 9].ljust(8, b"\0"), "big")
            _, read = _exp_golomb(bits, 0)
            slice_type, _ = _exp_golomb(bits, read)
            return slice_type % 5 == 1
        if with_codes:
            at = data.find(b"\0\0\1", at) + 3
            if at == 2:
                break
        else:
            at += int.from_bytes(data[at - 4 : at], "big") + 4
    return False


def _exp_golomb(bits: int, read: int) -> tuple[int, int]:
    """Return the number at a place in 64 bits, and where it ends."""
    zeros = 0
    while read + zeros < 64 and not bits >> (63 - read - zeros) & 1:
        zeros += 1
    end = read + 2 * zeros + 1
    return ((bits >> max(64 - end, 0)) & ((1 << (zeros + 1)) - 1)) - 1, end
