"""What ``captiond check`` says of servers."""

from pathlib import Path

import pytest

from connectors.errors import ConfigurationError
from daemon.commands.check import check, masked
from daemon.config.file import settings_from
from daemon.config.settings import Settings
from testing.refusing_server import MODEL, refusing_server


def over(url: str, folder: Path, **engine: str) -> Settings:
    (folder / "inbox").mkdir()
    values = {
        "sources": {"inbox": {"kind": "folder", "path": "inbox"}},
        "sink": {"kind": "folder", "path": "captions"},
        "engine": {"kind": "openai", "base_urls": [url], "model": MODEL, **engine},
    }
    return settings_from(values, folder=folder)


def test_says_in_which_form_windows_go_to_a_server(tmp_path: Path) -> None:
    with refusing_server() as server:
        url = f"http://127.0.0.1:{server.server_port}/v1"

        lines = check(over(url, tmp_path))

    (line,) = [line for line in lines if line.startswith("Windows go to")]
    assert line.startswith(f"Windows go to {url} as images and not as videos: it does not say that it is vLLM. ")


def test_refuses_a_server_that_takes_no_videos_where_they_are_asked_for(tmp_path: Path) -> None:
    with refusing_server() as server:
        url = f"http://127.0.0.1:{server.server_port}/v1"

        with pytest.raises(ConfigurationError, match=r"engine\.media: .* takes no videos: the server answers 400"):
            check(over(url, tmp_path, media="video"))


def test_says_that_no_server_answers(tmp_path: Path) -> None:
    lines = check(over("http://127.0.0.1:9/v1", tmp_path))

    assert "No server of engine.base_urls answers now: the start waits for one." in lines


def test_a_streams_user_and_password_are_masked(tmp_path: Path) -> None:
    sources = {
        "cam": {"kind": "stream", "url": "rtsp://me-too:secret@camera/1"},
        "two": {"kind": "stream", "url": "rtsp://camera/2", "username": "me-too", "password_file": "/run/password"},
    }
    values = {"sources": sources, "sink": {"kind": "folder", "path": "captions"}, "engine": {"kind": "fake"}}

    shown = str(masked(settings_from(values, folder=tmp_path)))

    assert "secret" not in shown
    assert "me-too" not in shown
