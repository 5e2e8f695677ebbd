"""Clips that are damaged, hostile or not clips at all. Each function writes one file and returns its path."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.corpus.clips import Recipe, make

DAY_S = 86_400
PLAYLISTS = {
    "hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:%d/a.ts\n#EXT-X-ENDLIST\n",
    "hls_of_files": b"#EXTM3U\n#EXTINF:5,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n# port %d\n",
    "concat": b"ffconcat version 1.0\nfile 'http://127.0.0.1:%d/a.mp4'\n",
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    b"m=video %d RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash": b'<?xml version="1.0"?>\n<MPD><BaseURL>http://127.0.0.1:%d/</BaseURL></MPD>\n',
    "m3u_after_space": b"\xef\xbb\xbf \n#EXTM3U\nhttp://127.0.0.1:%d/a.ts\n",
    "asx": b'<asx version="3.0"><entry><ref href="http://127.0.0.1:%d/a.wmv"/></entry></asx>\n',
}


def written(path, data):
    """Write bytes and return the path."""
    path = Path(path)
    path.write_bytes(data)
    return path


def cut(path, fraction, recipe=None):
    """Write a clip whose file ends early; its index stands in front unless the recipe says otherwise."""
    recipe = recipe or Recipe(frames=750, container_options={"movflags": "faststart"})
    whole = make(path, recipe)
    data = whole.path.read_bytes()
    return written(whole.path, data[: int(len(data) * fraction)])


def audio_only(path, cover=False):
    """Write a second of silence, with a cover picture if asked for."""
    path = Path(f"{path}.m4a" if not cover else f"{path}.mp4")
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=44_100)
        picture = None
        if cover:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
        for start in range(0, 44_100, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 44_100, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
        if picture is not None:
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24").reformat(format="yuvj420p")
            frame.pts, frame.time_base = 0, Fraction(1)
            container.mux(picture.encode(frame))
            container.mux(picture.encode())
    return path


def zero_frames(path):
    """Write a movie box with a video track and not one sample."""
    whole = make(path, Recipe(container_options={"movflags": "frag_keyframe+empty_moov"}))
    data = whole.path.read_bytes()
    return written(whole.path, data[: data.index(b"moof") - 4])


def declares_a_day(path):
    """Write three seconds whose every header says 24 hours."""
    whole = make(path, Recipe())
    data = bytearray(whole.path.read_bytes())
    for box, at in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 24)):
        start = data.index(box) + 4
        (scale,) = struct.unpack_from(">I", data, start + 12) if box != b"tkhd" else (1000,)
        struct.pack_into(">I", data, start + at, DAY_S * scale)
    whole.path.write_bytes(data)
    return whole


def bomb(path, codec="mjpeg", suffix="avi"):
    """Write 8192 x 4352 pixels of black: 107 MB of RGB a frame."""
    path = Path(f"{path}.{suffix}")
    pixels = "yuvj420p" if codec == "mjpeg" else "gray" if codec == "png" else "yuv420p"
    with av.open(str(path), "w", format="image2" if suffix == "png" else None, options={"update": "1"}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 8192, 4352, pixels
        frame = av.VideoFrame(8192, 4352, pixels)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def damaged(path, start, end, recipe=None, value=0):
    """Write a clip in which the bytes from ``start`` to ``end`` (fractions of the frame data) are overwritten."""
    whole = make(path, recipe or Recipe(frames=750))
    data = bytearray(whole.path.read_bytes())
    first = data.index(b"mdat") + 4 if b"mdat" in data else 2000
    last = data.index(b"moov") if b"moov" in data[first:] else len(data)
    low, high = (int(first + part * (last - first)) for part in (start, end))
    data[low:high] = bytes([value]) * (high - low)
    whole.path.write_bytes(data)
    return whole


def image(path, codec, suffix, pixels, number):
    """Write one painted picture."""
    from tests.corpus.painted import HEIGHT, WIDTH, paint

    path = Path(f"{path}.{suffix}")
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        frame = av.VideoFrame.from_ndarray(paint(number), "rgb24").reformat(format=pixels)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
