"""A camera: GStreamer's RTSP server, run by the system's Python, which has PyGObject.

It reads one line of JSON, prints its port, and serves ``/live`` until it is ended. Frames are numbered from 0 on, as
long as it lives, whoever comes and goes.
"""

import json
import sys
from pathlib import Path

import gi

sys.path.insert(0, str(Path(__file__).resolve().parent))
gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402
from painted_frames import painted  # noqa: E402

ENCODERS = {
    "h264": "x264enc {speed} bitrate=500 key-int-max={gop} bframes={bframes} b-adapt=false ! h264parse ! rtph264pay",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast bitrate=500 key-int-max={gop} ! h265parse ! rtph265pay",
    "mjpeg": "jpegenc ! rtpjpegpay",
}


class Camera:
    """The source of numbered frames for one server."""

    def __init__(self, wanted):
        self.wanted, self.number = wanted, 0

    def launch(self):
        """Return GStreamer's description of the stream."""
        wanted = self.wanted
        speed = "tune=zerolatency speed-preset=ultrafast" if not wanted["bframes"] else "speed-preset=ultrafast"
        encoder = ENCODERS[wanted["codec"]].format(speed=speed, gop=wanted["gop"], bframes=wanted["bframes"])
        in_band = "" if wanted["codec"] == "mjpeg" else f" config-interval={wanted['config_interval']}"
        caps = f"video/x-raw,format=I420,width={wanted['width']},height={wanted['height']},framerate={wanted['fps']}/1"
        source = f'appsrc name=frames is-live=true format=time caps="{caps}"'
        return f"( {source} ! identity sync=true ! {encoder}{in_band} name=pay0 pt=96 )"

    def configure(self, _factory, media):
        """Feed a stream that somebody asked for; its time begins at 0."""
        source = media.get_element().get_child_by_name("frames")
        if self.wanted["loses_each"]:
            lose_each(media.get_element().get_child_by_name("pay0"), self.wanted["loses_each"])
        begun = self.number
        step = Gst.SECOND // self.wanted["fps"]

        def feed(_source, _wanted):
            data = painted(self.number, self.wanted["width"], self.wanted["height"])
            buffer = Gst.Buffer.new_wrapped(data)
            buffer.pts, buffer.duration = (self.number - begun) * step, step
            self.number += 1
            _source.emit("push-buffer", buffer)

        source.connect("need-data", feed)


def lose_each(payloader, count):
    """Drop each so manieth packet behind the payloader, which has numbered it: as a network loses it."""
    seen = 0

    def look(_pad, _info):
        nonlocal seen
        seen += 1
        return Gst.PadProbeReturn.DROP if seen % count == 0 else Gst.PadProbeReturn.OK

    payloader.get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, look)


def protect(server, factory, wanted):
    """Ask for a user and a password."""
    auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    if wanted["auth"] == "basic":
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(wanted["user"], wanted["password"]), token)
    else:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(wanted["user"], wanted["password"], token)
    server.set_auth(auth)
    rights = GstRtspServer.RTSPPermissions()
    rights.add_permission_for_role("viewer", "media.factory.access", True)
    rights.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(rights)


def main():
    """Serve until the end."""
    wanted = json.loads(sys.stdin.readline())
    Gst.init(None)
    server, camera, factory = GstRtspServer.RTSPServer(), Camera(wanted), GstRtspServer.RTSPMediaFactory()
    server.set_address("127.0.0.1")
    server.set_service(str(wanted["port"]))
    factory.set_launch(camera.launch())
    factory.set_shared(True)
    factory.connect("media-configure", camera.configure)
    if wanted["auth"]:
        protect(server, factory, wanted)
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
