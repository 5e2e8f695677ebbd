"""Objects behind URLs: only under allowed prefixes, only plain URLs, bounded, and removed with the clip."""

import asyncio
import http.server
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from connectors.errors import ConfigurationError, Poison, Reason, Transient
from connectors.media.remote import RemoteMedia, check_prefixes, open_remote
from connectors.media.spool import Spool

OBJECT = b"an object"
SLOW = threading.Event()  # lets the slow store answer


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/clips/moved"):
            self.send_response(302)
            self.send_header("Location", "/secret")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path.startswith("/clips/slow"):
            SLOW.wait(60)
        super().do_GET()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    SLOW.clear()
    folder = tmp_path / "served" / "clips"
    folder.mkdir(parents=True)
    (folder / "a.mp4").write_bytes(b"a clip" * 1000)
    (folder / "slow").write_bytes(b"slow")
    (folder / "b.mp4").write_bytes(b"b" * 8000)
    (folder / "c.mp4").write_bytes(b"c" * 1000)
    (folder / "empty.mp4").write_bytes(b"")
    (folder.parent / "secret").write_bytes(b"secret")
    handler = partial(Quiet, directory=str(folder.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/clips/"
        SLOW.set()
        server.shutdown()


def remote(uri: str, spool: Spool, *, prefix: str = "", max_clip_bytes: int = 10_000) -> RemoteMedia:
    prefixes = [prefix or uri.rpartition("/")[0] + "/"]
    media = open_remote(uri, "r", prefixes=prefixes, spool=spool, max_clip_bytes=max_clip_bytes)
    assert isinstance(media, RemoteMedia)
    return media


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", 10_000)


def test_an_object_is_fetched_once_and_leaves_nothing(store: str, spool: Spool) -> None:
    media = remote(f"{store}a.mp4", spool)
    for _ in range(2):
        with os.fdopen(media.open(), "rb") as file:
            assert file.read() == b"a clip" * 1000
    assert media.size_bytes == 6000
    media.close()
    media.close()

    assert list(spool.folder.iterdir()) == []
    assert (spool.held_bytes, spool.received_bytes) == (0, 6000)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("empty.mp4", Reason.EMPTY), ("none.mp4", Reason.VANISHED), ("a.mp4", Reason.TOO_LARGE)],
)
def test_what_can_not_be_a_clip_is_named(store: str, spool: Spool, name: str, reason: Reason) -> None:
    media = remote(f"{store}{name}", spool, max_clip_bytes=5000)

    with pytest.raises(Poison) as refused:
        media.open()

    assert refused.value.reason == reason
    assert spool.held_bytes == 0
    media.close()


async def test_a_slow_store_keeps_nobody_else(store: str, spool: Spool) -> None:
    media = remote(f"{store}slow", spool)
    fetching = asyncio.create_task(media.fetch())
    for _ in range(20):  # the loop turns on
        await asyncio.sleep(0.01)
        assert not fetching.done()
    SLOW.set()
    await fetching
    os.close(media.open())
    media.close()


async def test_a_full_spool_is_waited_for_in_line(store: str, spool: Spool) -> None:
    first, large, small = (remote(f"{store}{name}", spool) for name in ("a.mp4", "b.mp4", "c.mp4"))
    await first.fetch()
    waiting = []
    for number, media in enumerate((large, small), 1):
        waiting.append(asyncio.create_task(media.fetch()))
        while len(spool._line) < number:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert [task.done() for task in waiting] == [False, False]
    assert spool.held_bytes == 6000

    first.close()
    await asyncio.gather(*waiting)
    assert spool.held_bytes == 9000
    large.close()
    small.close()
    assert spool.held_bytes == 0


@pytest.mark.parametrize("name", ["slow", "b.mp4"], ids=["while it is fetched", "while it waits"])
async def test_a_clip_that_is_given_up_lets_go_at_once(store: str, spool: Spool, name: str) -> None:
    first, given_up = remote(f"{store}a.mp4", spool), remote(f"{store}{name}", spool)
    await first.fetch()
    fetching = asyncio.create_task(given_up.fetch())
    await asyncio.sleep(0.2)
    fetching.cancel()
    given_up.close()
    await asyncio.gather(fetching, return_exceptions=True)
    first.close()
    SLOW.set()

    for _ in range(1000):
        if spool.held_bytes == 0 and not any(thread.name == "spool" for thread in threading.enumerate()):
            break
        await asyncio.sleep(0.05)
    assert spool.held_bytes == 0
    assert not any(thread.name == "spool" for thread in threading.enumerate())


def test_a_scheme_that_nothing_here_speaks_is_named() -> None:
    check_prefixes(["http://host/clips/"], path="sources.a.references.url_prefixes")
    with pytest.raises(ConfigurationError, match=r"url_prefixes: 'nosuch://host/' can't be fetched"):
        check_prefixes(["nosuch://host/"], path="sources.a.references.url_prefixes")


def test_a_redirect_is_not_followed(store: str, spool: Spool) -> None:
    media = remote(f"{store}moved", spool)

    try:
        with os.fdopen(media.open(), "rb") as file:
            assert b"secret" not in file.read()
    except (Poison, Transient):
        pass
    media.close()


@pytest.mark.parametrize(
    "uri",
    [
        "http://host/clips/../secret",
        "http://host/clips/%2e%2e/secret",
        "http://host/clips/..%2fsecret",
        "http://host/clips/..;/secret",
        "http://host/clips/..;x=y/secret",
        "http://host/clips/.;/secret",
        "http://host/clips/%252e%252e/secret",
        "http://host/clips/%25252e%25252E/secret",
        "http://host/clips/.%252e/secret",
        "http://host/clips/..%252fsecret",
        "http://host/clips/..%253b/secret",
        "http://host/clips/..\\secret",
        "http://host/clips/..%5csecret",
        "http://host/clips/..%255csecret",
        "http://host/clips/a\\..\\..\\secret",
        "http://host/clips/..%20/secret",
        "http://host/clips/a%00.mp4",
        "http://host/clips/a%250a.mp4",
        "http://host/clips/%2525252525252541",
        "http://host/clips/a b",
        "http://host/clips/a\n",
        "http://host/clips/a#b",
        "http://host/other/a",
        "http://host@evil/clips/a",
        "https://host/clips/a",
        "http://host/clips/" + "a" * 5000,
    ],
)
def test_urls_that_lead_out_are_refused(uri: str, spool: Spool) -> None:
    with pytest.raises(Poison) as refused:
        remote(uri, spool, prefix="http://host/clips/")

    assert refused.value.reason == Reason.FORBIDDEN_PATH


PLAIN = """
a.mp4 a..b.mp4 ...mp4 50%25.mp4 50%.mp4 a;v=1.mp4 two%20words.mp4 %E6%97%A5.mp4 \u65e5.mp4 a+b@c:d.mp4 a//b.mp4
a%2525.mp4 a.mp4?X-Amz-Signature=a%2Fb/..;/&x=../y
"""


@pytest.mark.parametrize("name", PLAIN.split())
def test_plain_urls_are_taken(name: str, spool: Spool) -> None:
    assert remote(f"http://host/clips/{name}", spool, prefix="http://host/clips/").name == "r"


def test_an_object_store_is_read_through_fsspec(spool: Spool) -> None:
    fsspec.register_implementation("shelf", MemoryFileSystem, clobber=True)
    with fsspec.open("shelf://bucket/clips/a.mp4", "wb") as file:
        file.write(b"an object")
    media = remote("shelf://bucket/clips/a.mp4", spool)

    with os.fdopen(media.open(), "rb") as file:
        assert file.read() == b"an object"
    media.close()
    assert spool.held_bytes == 0


class Store(AbstractFileSystem):  # type: ignore[misc]
    """A store of one object, as s3fs, gcsfs and adlfs are built: it notes what it is asked for."""

    protocol = "store"
    asked: list[str] = []  # noqa: RUF012 - one for all instances, which fsspec makes itself

    def info(self, path: str, **_: object) -> dict[str, object]:
        self.asked.append("head")
        return {"name": path, "size": len(OBJECT), "type": "file"}

    def _open(self, path: str, mode: str = "rb", **_: object) -> AbstractBufferedFile:
        return StoredObject(self, path, mode)


class StoredObject(AbstractBufferedFile):  # type: ignore[misc]
    def _fetch_range(self, start: int, end: int) -> bytes:
        Store.asked.append("get")
        return OBJECT[start:end]


def test_a_store_is_asked_twice_for_a_small_object(spool: Spool) -> None:
    fsspec.register_implementation("store", Store, clobber=True)
    Store.asked.clear()
    media = remote("store://bucket/clips/a.mp4", spool)

    with os.fdopen(media.open(), "rb") as file:
        assert file.read() == OBJECT
    assert Store.asked == ["head", "get"]
    media.close()
