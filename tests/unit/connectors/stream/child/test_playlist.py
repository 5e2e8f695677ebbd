"""HLS that the recorder fetches itself: only HTTP, the dates of its segments, and a login for its own server alone."""

import base64
import io
from typing import Any

import pytest

from connectors.stream.child.playlist import HlsClock, PlaylistFetcher, nanoseconds, without_login

SECOND_NS = 10**9
NOON_NS = 1_800_000_000 * SECOND_NS
PLAYLIST = """#EXTM3U
#EXT-X-TARGETDURATION:2
#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:00.250Z
#EXTINF:2.0,
a.ts
#EXTINF:1.5,
b.ts
#EXT-X-DISCONTINUITY
#EXTINF:2.0,
c.ts
"""


class Answer(io.BytesIO):
    """What a server answers."""

    def __init__(self, data: bytes, url: str) -> None:
        super().__init__(data)
        self.url, self.headers = url, self

    def get_content_type(self) -> str:
        return "application/octet-stream"


class Server:
    """Answers instead of the network, and keeps the requests."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.requests = files, list[Any]()

    def open(self, request: Any, timeout: float) -> Answer:
        self.requests.append(request)
        return Answer(self.files[request.full_url], request.full_url)


@pytest.fixture
def server() -> Server:
    files = {f"http://door/{name}.ts": name.encode() * 100 for name in "abc"}
    return Server({**files, "http://door/live.m3u8": PLAYLIST.encode(), "http://elsewhere/d.ts": b"d"})


@pytest.fixture
def fetcher(server: Server, monkeypatch: pytest.MonkeyPatch) -> PlaylistFetcher:
    made = PlaylistFetcher("http://viewer:s%40crt@door/live.m3u8", 5.0)
    monkeypatch.setattr(made, "_opener", server)
    return made


def read(fetcher: PlaylistFetcher, url: str) -> bytes:
    file = fetcher.open(url, 0, {})
    data = b"".join(iter(lambda: file.read(64), b""))
    file.close()
    return data


@pytest.mark.parametrize("url", ["file:///etc/passwd", "crypto+http://door/a.ts", "data:,x", "ftp://door/a.ts", "a.ts"])
def test_nothing_but_http_is_opened(fetcher: PlaylistFetcher, server: Server, url: str) -> None:
    with pytest.raises(OSError, match="only HTTP"):
        fetcher.open(url, 0, {})

    assert server.requests == []


def test_a_packets_place_gives_the_date_of_its_segment(fetcher: PlaylistFetcher) -> None:
    read(fetcher, "http://door/live.m3u8")
    for name in "abc":
        assert len(read(fetcher, f"http://door/{name}.ts")) == 100

    first = NOON_NS + SECOND_NS // 4
    assert [fetcher.date_at(at) for at in (0, 99, 100, 199)] == [
        *((0, first), (0, first)),
        *((100, first + 2 * SECOND_NS), (100, first + 2 * SECOND_NS)),
    ]
    assert fetcher.date_at(200) is None  # behind a discontinuity without a date
    assert fetcher.date_at(None) is None


def test_the_clock_is_that_of_a_segments_first_packet(fetcher: PlaylistFetcher) -> None:
    read(fetcher, "http://door/live.m3u8")
    read(fetcher, "http://door/a.ts")
    clock = HlsClock(fetcher)

    clock.take(0, 7 * SECOND_NS)
    clock.take(50, 8 * SECOND_NS)

    assert clock.offset_ns == NOON_NS + SECOND_NS // 4 - 7 * SECOND_NS


def test_the_login_goes_to_the_streams_own_server_alone(fetcher: PlaylistFetcher, server: Server) -> None:
    read(fetcher, "http://door/live.m3u8")
    read(fetcher, "http://elsewhere/d.ts")

    to_door, elsewhere = server.requests
    assert to_door.get_header("Authorization") == "Basic " + base64.b64encode(b"viewer:s@crt").decode()
    assert elsewhere.get_header("Authorization") is None
    assert without_login("http://viewer:s%40crt@door:80/x") == "http://door:80/x"


@pytest.mark.parametrize(
    ("text", "passed_ns"),
    [("2027-01-15T08:00:00Z", 0), ("2027-01-15T09:00:00.5+0100", SECOND_NS // 2), ("2027-01-15T08:00:01", SECOND_NS)],
)
def test_dates(text: str, passed_ns: int) -> None:
    assert nanoseconds(text) == NOON_NS + passed_ns
    assert nanoseconds("yesterday") is None
