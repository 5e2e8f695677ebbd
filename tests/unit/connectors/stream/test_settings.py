"""The settings of streams: URLs that are none are refused, and no complaint shows what stands in one."""

from typing import Any

import pytest
from pydantic import ValidationError

from connectors.stream.settings import StreamSourceSettings
from daemon.config.file import settings_from

SECRET = "pa55-of-the-door"  # noqa: S105 - it protects nothing


@pytest.mark.parametrize(
    "given",
    [
        {"url": f"ftp://viewer:{SECRET}@door/live"},
        {"url": f"file:///{SECRET}"},
        {"url": f"concat:{SECRET}"},
        {"url": f"rtsp://viewer:{SECRET}@/live"},
        {"url": f"rtsp://viewer:{SECRET}@door:port/live"},
        {"url": f"rtsp://viewer:{SECRET}@[door/live"},
        {"url": f"rtsp://viewer:{SECRET} @door/live"},
        {"url": f"http://viewer:{SECRET}@door/live.m3u8", "transport": "udp"},
        {"url": f"rtsp://viewer:{SECRET}@door/live", "password_file": "password"},
        {"url": f"rtsp://viewer:{SECRET}@door/live", "username": "viewer"},
        {"url": "rtsp://door/live", "password_file": "password"},
    ],
    ids=lambda given: str(given["url"]).partition(":")[0] + "-" + str(len(given)),
)
def test_what_is_no_stream_is_refused_without_showing_it(given: dict[str, Any], tmp_path: Any) -> None:
    with pytest.raises(ValidationError):
        StreamSourceSettings(**given)

    values = {"sources": {"door": {"kind": "stream", **given}}, "sink": {"kind": "folder", "path": "captions"}}
    with pytest.raises(Exception, match=r"sources\.door") as refused:
        settings_from(values, folder=tmp_path)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "password", "address"),
    [
        ({"url": "rtsp://door/live"}, None, "rtsp://door/live"),
        ({"url": "rtsp://a:b@door:554/live?x=1"}, None, "rtsp://a:b@door:554/live?x=1"),
        ({"url": "rtsp://door/live", "username": "me@home", "password_file": "p"}, "a/b:c", "rtsp://me%40home:a%2Fb%3Ac@door/live"),
        ({"url": "rtsp://viewer@door/live", "password_file": "p"}, "x", "rtsp://viewer:x@door/live"),
    ],
    ids=["plain", "in-url", "keys", "user-in-url"],
)  # fmt: skip
def test_the_address_has_the_user_and_the_password(given: dict[str, Any], password: str | None, address: str) -> None:
    assert StreamSourceSettings(**given).address(password) == address


def test_the_url_is_not_in_what_the_settings_show() -> None:
    settings = StreamSourceSettings(url=f"rtsp://viewer:{SECRET}@door/live")

    assert SECRET not in repr(settings)
