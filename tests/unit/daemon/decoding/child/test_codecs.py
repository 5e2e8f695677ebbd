"""The codecs that are decoded, and those that are refused before their decoder sees a byte."""

from pathlib import Path

import av
import numpy as np
import pytest

from connectors.errors import Reason
from daemon.decoding.child.codecs import VIDEO
from tests.corpus.sampling import running, sample


def encode(path: Path, codec: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        if codec == "snow":
            stream.codec_context.options = {"strict": "-2"}
        for number in range(25):
            grey = np.full((96, 64), 9 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="yuv420p")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("codec", VIDEO)
def test_each_codec_has_a_decoder_and_a_reason(codec: str) -> None:
    assert av.Codec(codec, "r").type == "video"
    assert VIDEO[codec]


@pytest.mark.parametrize(
    ("codec", "suffix"), [("utvideo", "avi"), ("snow", "avi"), ("jpeg2000", "mkv"), ("zmbv", "avi")]
)
async def test_a_rare_codec_is_refused_by_name(tmp_path: Path, codec: str, suffix: str) -> None:
    clip = encode(tmp_path / f"clip.{suffix}", codec) if codec != "zmbv" else encode_packed(tmp_path / "clip.avi")

    async with running() as sampler:
        outcome = await sample(sampler, clip)

    assert outcome.reason == Reason.UNSUPPORTED_CODEC
    assert codec in str(outcome.fault)


def encode_packed(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("zmbv", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "bgr0"
        for number in range(25):
            grey = np.full((64, 64, 4), 9 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="bgra").reformat(format="bgr0")))
        container.mux(stream.encode())
    return path
