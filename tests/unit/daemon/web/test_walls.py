"""Who may see media and change something: each way in that is not the page's own, and what it is answered."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from connectors.errors import ConfigurationError
from connectors.media.protocols import FileSpan
from daemon.web.access import TOKEN as OWN_TOKEN
from daemon.web.access import read_token
from daemon.web.clips import Clips
from daemon.web.hosts import AllowedHosts
from tests.page.showing import TOKEN, Shown, clip

ORIGIN = "http://127.0.0.1:8480"
OWN = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}
BEARER = {"Authorization": f"Bearer {TOKEN}"}
REDONE: list[tuple[str, str]] = []


def redo(source: str, clip_id: str) -> str:
    REDONE.append((source, clip_id))
    return ""


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    (tmp_path / "clip").write_bytes(b"0123456789")
    REDONE.clear()
    shown = Shown(clips=Clips(lambda *_: FileSpan.whole(os.open(tmp_path / "clip", os.O_RDONLY)), redo, ["inbox"]))
    shown.publish(clip("a.mp4"), "A porch.")
    shown.publish(clip("b.mp4", source="kafka"), "A street.")
    return shown


@pytest.fixture
async def pages(shown: Shown) -> AsyncIterator[httpx.AsyncClient]:
    app = AllowedHosts(shown.app, "127.0.0.1:8480")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as client:  # type: ignore[arg-type]
        yield client


def media(shown: Shown, number: int = 1) -> list[str]:
    name = f"{shown.feed.epoch}-{number}"
    return [f"/strips/{name}", f"/clips/{name}/video", f"/clips/{name}/captions.vtt"]


def replay(shown: Shown, number: int = 1) -> str:
    return f"/clips/{shown.feed.epoch}-{number}/replay"


async def log_in(pages: httpx.AsyncClient) -> None:
    answer = await pages.post("/session", json={"token": TOKEN}, headers=OWN)
    assert answer.status_code == 204
    assert "httponly" in answer.headers["set-cookie"].lower()
    assert "samesite=strict" in answer.headers["set-cookie"].lower()


async def test_media_needs_the_token(shown: Shown, pages: httpx.AsyncClient) -> None:
    without = [(await pages.get(path)).status_code for path in media(shown)]
    wrong = [(await pages.get(path, headers={"Authorization": "Bearer no"})).status_code for path in media(shown)]
    right = [(await pages.get(path, headers=BEARER)).status_code for path in media(shown)]
    await log_in(pages)
    with_cookie = [(await pages.get(path)).status_code for path in media(shown)]

    assert (without, wrong, right, with_cookie) == ([401] * 3, [403] * 3, [200] * 3, [200] * 3)


async def test_the_page_and_its_text_need_none(shown: Shown, pages: httpx.AsyncClient) -> None:
    for path in ("/", "/page.js", "/metrics", "/status.json", "/livez", "/readyz"):
        assert (await pages.get(path)).status_code == 200


@pytest.mark.parametrize(("headers", "sees"), [({}, False), ({"Authorization": "Bearer no"}, False), (BEARER, True)])
async def test_events_have_pictures_for_who_has_the_token(shown: Shown, headers: dict[str, str], sees: bool) -> None:
    with shown.served() as (port, _):
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60)
        async with client, client.stream("GET", "/events", headers=headers) as answer:
            async for line in answer.aiter_lines():
                if line.startswith('data: {"number"'):
                    break

    assert len(json.loads(line.removeprefix("data: "))["strip"]) == (3 if sees else 2)


async def test_a_replay_needs_the_token_and_is_done(shown: Shown, pages: httpx.AsyncClient) -> None:
    without = await pages.post(replay(shown), headers=OWN)
    wrong = await pages.post(replay(shown), headers=OWN | {"Authorization": "Bearer no"})
    assert REDONE == []

    await log_in(pages)
    done = await pages.post(replay(shown), headers=OWN)

    assert (without.status_code, wrong.status_code, done.status_code) == (401, 403, 200)
    assert [("inbox", clip("a.mp4").clip_id)] == REDONE


async def test_a_program_with_the_token_replays(shown: Shown, pages: httpx.AsyncClient) -> None:
    assert (await pages.post(replay(shown), headers=BEARER)).status_code == 200
    assert len(REDONE) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},  # no browser: and a cookie alone is none of a program's
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},  # another program's page on this machine
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8480.evil.example"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_another_site_changes_nothing(shown: Shown, pages: httpx.AsyncClient, headers: dict[str, str]) -> None:
    await log_in(pages)

    answers = [
        await pages.post(replay(shown), headers=headers),
        await pages.post("/session", json={"token": TOKEN}, headers=headers),
    ]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert REDONE == []


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_site_embeds_nothing(shown: Shown, pages: httpx.AsyncClient, site: str) -> None:
    await log_in(pages)
    answers = [await pages.get(path, headers={"Sec-Fetch-Site": site}) for path in media(shown)]

    assert [answer.status_code for answer in answers] == [403] * 3


async def test_a_rebound_name_reaches_nothing(shown: Shown, pages: httpx.AsyncClient) -> None:
    await log_in(pages)
    rebound = {"Host": "evil.example:8480", "Origin": "http://evil.example:8480", "Sec-Fetch-Site": "same-origin"}
    paths = ["/", "/events", "/status.json", *media(shown)]

    reads = [(await pages.get(path, headers=rebound | BEARER)).status_code for path in paths]
    changes = [
        (await pages.post(replay(shown), headers=rebound | BEARER)).status_code,
        (await pages.post("/session", json={"token": TOKEN}, headers=rebound)).status_code,
    ]

    assert (set(reads), set(changes), REDONE) == ({421}, {421}, [])


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"token": "no"}', "application/json", 403),
        (b'{"token": ""}', "application/json", 403),
        (b'{"token": "\xc3\xa9"}', "application/json", 403),
        (b'{"token": 1}', "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[" * 1500, "application/json", 400),
        (b" " * 100_000, "application/json", 400),
        (f'{{"token": "{TOKEN}"}}'.encode(), "text/plain", 415),  # a form of another site can send this
    ],
)
async def test_what_is_no_token_begins_no_session(
    pages: httpx.AsyncClient, body: bytes, kind: str, status: int
) -> None:
    answer = await pages.post("/session", content=body, headers=OWN | {"Content-Type": kind})

    assert answer.status_code == status
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2fetc%2fpasswd", "../../etc/passwd", "%2e%2e", "{epoch}-2%00", "{epoch}-99", "{epoch}-", "{epoch}--1",
        "{epoch}-1e3", "{epoch}-\u0661", "00000000-1", "-1", "{epoch}-" + "9" * 400, "{epoch}-1/../../x", "etc/passwd",
    ],
)  # fmt: skip
async def test_a_clip_is_named_by_a_number_alone(shown: Shown, pages: httpx.AsyncClient, name: str) -> None:
    named = name.replace("{epoch}", shown.feed.epoch)
    for path in (f"/strips/{named}", f"/clips/{named}/video", f"/clips/{named}/captions.vtt"):
        assert (await pages.get(path, headers=BEARER)).status_code in (404, 405)
    assert (await pages.post(f"/clips/{named}/replay", headers=BEARER)).status_code in (404, 405)
    assert REDONE == []


async def test_a_clip_that_came_in_a_record_is_gone(shown: Shown, pages: httpx.AsyncClient) -> None:
    strip, video, track = [await pages.get(path, headers=BEARER) for path in media(shown, 2)]

    assert (strip.status_code, video.status_code, track.status_code) == (200, 404, 200)
    assert "A street." in track.text


async def test_what_cant_be_replayed_says_why(shown: Shown, pages: httpx.AsyncClient) -> None:
    def refuses(*_: str) -> str:
        raise ConfigurationError("no such folder", path="sink.path")

    shown = Shown(clips=Clips(lambda *_: None, refuses, ["inbox"]))
    shown.publish(clip("a.mp4"), "A porch.")
    client = httpx.AsyncClient(transport=httpx.ASGITransport(shown.app), base_url=ORIGIN)

    answer = await client.post(replay(shown), headers=BEARER)
    video = await client.get(media(shown)[1], headers=BEARER)

    assert (answer.status_code, answer.json()) == (409, {"error": "sink.path: no such folder"})
    assert video.status_code == 404


def test_a_token_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first, again = read_token(None, tmp_path), read_token(None, tmp_path)

    assert first == again
    assert len(first) >= 40
    assert (tmp_path / OWN_TOKEN).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("how", ["others read it", "link", "pipe", "short", "binary"])
def test_a_token_that_others_may_know_is_not_used(tmp_path: Path, how: str) -> None:
    path = tmp_path / OWN_TOKEN
    known = "0123456789abcdef0123456789abcdef"
    (tmp_path / "theirs").write_text(known)
    (tmp_path / "theirs").chmod(0o600)
    match how:
        case "others read it":
            path.write_text(known)
            path.chmod(0o644)
        case "link":
            path.symlink_to(tmp_path / "theirs")
        case "pipe":
            os.mkfifo(path, 0o600)
        case "short":
            path.write_text("0")
            path.chmod(0o600)
        case _:
            path.write_bytes(b"\xff" * 64)
            path.chmod(0o600)

    token = read_token(None, tmp_path)

    assert token != known
    assert len(token) >= 40
    assert (tmp_path / "theirs").read_text() == known
    assert read_token(None, tmp_path) == token


@pytest.mark.parametrize("content", [b"", b"short", b"two lines\nof a long token", b"\xff" * 32, b"x" * 2000, None])
def test_a_file_without_a_token_is_an_error_of_the_configuration(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"^web\.token_file: "):
        read_token(tmp_path / "token", tmp_path)


def test_where_nothing_can_be_kept_a_token_is_there_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file is in the way")

    assert len(read_token(None, tmp_path / "state")) >= 40
