"""Objects behind URLs: only under allowed prefixes, only plain URLs, bounded, and removed with the clip."""

import http.server
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from connectors.errors import Poison, Reason, Transient
from connectors.remote_media import RemoteMedia, SpoolBudget, open_remote


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
        super().do_GET()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served" / "clips"
    folder.mkdir(parents=True)
    (folder / "a.mp4").write_bytes(b"a clip" * 1000)
    (folder / "empty.mp4").write_bytes(b"")
    (folder.parent / "secret").write_bytes(b"secret")
    handler = partial(Quiet, directory=str(folder.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/clips/"
        server.shutdown()


def opened(uri: str, prefix: str, spool: Path, *, max_clip_bytes: int = 10_000, budget: SpoolBudget) -> RemoteMedia:
    media = open_remote(uri, "r", prefixes=[prefix], spool=spool, budget=budget, max_clip_bytes=max_clip_bytes)
    assert isinstance(media, RemoteMedia)
    return media


def test_an_object_is_fetched_once_and_leaves_nothing(store: str, tmp_path: Path) -> None:
    budget = SpoolBudget(10_000)
    media = opened(f"{store}a.mp4", store, tmp_path / "spool", budget=budget)
    for _ in range(2):
        with os.fdopen(media.open(), "rb") as file:
            assert file.read() == b"a clip" * 1000
    assert media.size_bytes == 6000
    media.close()
    media.close()

    assert list((tmp_path / "spool").iterdir()) == []
    budget.take(10_000)  # all of it is free again


@pytest.mark.parametrize(
    ("name", "reason"),
    [("empty.mp4", Reason.EMPTY), ("none.mp4", Reason.VANISHED), ("a.mp4", Reason.TOO_LARGE)],
)
def test_what_can_not_be_a_clip_is_named(store: str, tmp_path: Path, name: str, reason: Reason) -> None:
    media = opened(f"{store}{name}", store, tmp_path, max_clip_bytes=5000, budget=SpoolBudget(10_000))

    with pytest.raises(Poison) as refused:
        media.open()

    assert refused.value.reason == reason
    media.close()


def test_a_redirect_is_not_followed(store: str, tmp_path: Path) -> None:
    media = opened(f"{store}moved", store, tmp_path, budget=SpoolBudget(10_000))

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
        "http://host/clips/a b",
        "http://host/clips/a\n",
        "http://host/clips/a#b",
        "http://host/other/a",
        "http://host@evil/clips/a",
        "https://host/clips/a",
        "http://host/clips/" + "a" * 5000,
    ],
)
def test_urls_that_lead_out_are_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(Poison) as refused:
        opened(uri, "http://host/clips/", tmp_path, budget=SpoolBudget(1))

    assert refused.value.reason == Reason.FORBIDDEN_PATH
