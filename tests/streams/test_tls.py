"""Servers behind TLS with certificates of their own: refused unless they are trusted, for all URLs."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError
from testing.cameras.ffmpeg_servers import HlsCamera, RtmpCamera
from testing.cameras.servers import RtspCamera, why_no_rtsp
from testing.cameras.tcp_proxy import Certificate, TcpProxy, why_no_certificates
from tests.streams.conftest import Recordings
from tests.streams.watching import has_begun

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_no_certificates()), reason=why_no_certificates() or "they are there"),
]

NO_RTSP = pytest.mark.skipif(bool(why_no_rtsp()), reason=why_no_rtsp() or "it is there")


def camera_of(scheme: str, folder: Path) -> Any:
    if scheme == "https":
        return HlsCamera(folder)
    return RtspCamera() if scheme == "rtsps" else RtmpCamera()


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate(tmp_path)


@pytest.fixture(params=["https", pytest.param("rtsps", marks=NO_RTSP), "rtmps"])
def url(request: pytest.FixtureRequest, certificate: Certificate, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "hls").mkdir()
    with camera_of(request.param, tmp_path / "hls") as camera:
        _, _, rest = camera.url.partition("://")
        port, slash, path = rest.partition(":")[2].partition("/")
        with contextlib.closing(TcpProxy(int(port), certificate)) as proxy:
            yield f"{request.param}://127.0.0.1:{proxy.port}{slash}{path}"


async def test_a_server_with_a_certificate_of_its_own_is_refused_until_it_is_trusted(
    recordings: Recordings, url: str, certificate: Certificate
) -> None:
    async with recordings.of(url, name="shut") as refused, asyncio.timeout(240):
        while refused.state.reason in ("", "connecting", "refused", "not_found"):  # it has only begun
            await asyncio.sleep(0.05)
        reason = refused.state.reason
    async with recordings.of(url, ssl_cafile=certificate.path) as recording, asyncio.timeout(240):
        await has_begun(recording)

    assert reason == "untrusted"
    assert refused.first_ns is None


async def test_a_server_that_nobody_verifies_is_recorded(recordings: Recordings, url: str) -> None:
    async with recordings.of(url, ssl_verify=False) as recording, asyncio.timeout(240):
        await has_begun(recording)


async def test_a_file_of_certificates_that_is_not_there_is_refused_at_the_start(recordings: Recordings) -> None:
    missing = recordings.folder / "none.pem"
    with pytest.raises(ConfigurationError, match=r"none\.pem can't be read"):
        async with recordings.of("https://127.0.0.1:9/live.m3u8", ssl_cafile=missing):
            pass
