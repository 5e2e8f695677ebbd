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
