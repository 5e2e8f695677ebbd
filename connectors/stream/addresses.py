"""The demuxers and protocols that FFmpeg may use for a stream, by its URL's scheme: nothing beside them is tried."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

_HLS = "hls,mpegts,mov,mp4,m4a,3gp,3g2,mj2"
_FETCHED = {"http_persistent": "0", "http_multiple": "0"}
_OVER_TLS = ("rtsps", "rtmps")  # by FFmpeg; https is fetched by the recorder
_OPEN_US = "500000"  # what is read before the first packet is handed out; packets read meanwhile are not lost


@dataclass(frozen=True, slots=True)
class Scheme:
    """A scheme's demuxers and protocols.

    ``hold_s`` is how long the first packets wait for a clock; ``in_bursts`` says that they arrive a file at a time.
    """

    demuxer: str | None
    formats: str
    protocols: str
    hold_s: float = 1.0
    in_bursts: bool = False
    options: dict[str, str] = field(default_factory=dict)


SCHEMES = {
    "rtsp": Scheme("rtsp", "rtsp,sdp,rtp", "rtp,udp,tcp", 4.0),
    "rtsps": Scheme("rtsp", "rtsp,sdp,rtp", "rtp,udp,tcp,tls", 4.0),
    "rtmp": Scheme("flv", "flv,live_flv", "rtmp,tcp", options={"rtmp_live": "live"}),
    "rtmps": Scheme("flv", "flv,live_flv", "rtmps,tls,tcp", options={"rtmp_live": "live"}),
    "srt": Scheme("mpegts", "mpegts", "srt"),
    "udp": Scheme("mpegts", "mpegts", "udp", options={"fifo_size": "100000", "overrun_nonfatal": "1"}),
    # what the demuxer opens is fetched by the recorder itself, which lets FFmpeg keep no connection
    "http": Scheme("hls", _HLS, "http,https", in_bursts=True, options=_FETCHED),
    "https": Scheme("hls", _HLS, "http,https", in_bursts=True, options=_FETCHED),
}


def _verified(authorities: str) -> dict[str, str]:
    return {"tls_verify": "1", **({"ca_file": authorities} if authorities else {})}


def scheme_of(url: str) -> Scheme:
    """Return what a URL's scheme may use; ``KeyError`` for one that is none of these."""
    return SCHEMES[urlsplit(url).scheme]


def options_for(url: str, transport: str, authorities: str | None = "") -> dict[str, str]:
    """Return FFmpeg's options for a URL. No decoder has the name that is allowed, so none is ever opened.

    ``authorities`` is the file of the certificates that a server's is verified by; None where it is not.
    """
    name = urlsplit(url).scheme
    scheme = SCHEMES[name]
    return {
        "codec_whitelist": "none",
        "format_whitelist": scheme.formats,
        "protocol_whitelist": scheme.protocols,
        "analyzeduration": _OPEN_US,
        **({"rtsp_transport": transport} if scheme.demuxer == "rtsp" else {}),
        **(_verified(authorities) if name in _OVER_TLS and authorities is not None else {}),
        **scheme.options,
    }
