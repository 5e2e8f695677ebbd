"""The recorder opens no decoder: not for probing a stream, and nowhere in its source."""

import ast
import io

import av
import pytest

from connectors.stream.addresses import SCHEMES, options_for
from testing.repository import ROOT

CHILD = ROOT / "connectors" / "stream" / "child"


def transport_stream(codec: str) -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="mpegts") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(30):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    return target.getvalue()


@pytest.mark.parametrize("codec", ["mpeg2video", "mpeg4"])
def test_ffmpeg_decodes_nothing_to_learn_of_a_stream(codec: str) -> None:
    data = transport_stream(codec)
    kept = {"codec_whitelist": options_for("udp://127.0.0.1:1", "tcp")["codec_whitelist"]}

    with av.open(io.BytesIO(data)) as usual, av.open(io.BytesIO(data), options=kept) as ours:
        learned = [one.streams.video[0].codec_context.pix_fmt for one in (usual, ours)]

    assert learned[0] == "yuv420p"
    assert learned[1] is None or codec == "mpeg2video"  # whose parser knows it
    assert all(options_for(f"{scheme}://door:1/x", "tcp")["codec_whitelist"] == "none" for scheme in SCHEMES)


def test_the_recorders_way_to_pyav_names_nothing_that_decodes() -> None:
    nodes = list(ast.walk(ast.parse((CHILD / "pyav.py").read_text())))
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    of_pyav = {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "av"}

    assert of_pyav == {"open", "Packet", "logging", "__path__"}
    assert "decode" not in {node.attr for node in attributes}


def test_only_what_belongs_to_a_scheme_may_be_opened() -> None:
    for name, scheme in SCHEMES.items():
        protocols = options_for(f"{name}://door:1/x", "tcp")["protocol_whitelist"].split(",")
        assert not {"file", "fd", "pipe", "data", "subfile", "concat", "unix"} & set(protocols)
        assert scheme.formats
