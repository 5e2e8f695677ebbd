"""Folders of a configuration that lie in each other are refused: at the start, by ``check`` and at a reload."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectors.checks.overlaps import refuse_overlaps
from connectors.errors import ConfigurationError
from daemon.config.file import settings_from
from daemon.config.settings import Settings
from testing.repository import ROOT


def settings(at: Path, sink: str = "captions", state: str = "state", **sources: Any) -> Settings:
    named = {
        name: source if isinstance(source, dict) else {"kind": "folder", "path": source}
        for name, source in (sources or {"inbox": "inbox"}).items()
    }
    values = {
        "sources": named,
        "sink": {"kind": "folder", "path": sink},
        "state_dir": state,
        "engine": {"kind": "fake"},
    }
    return settings_from(values, folder=at)


def refusal(given: Settings) -> str:
    with pytest.raises(ConfigurationError) as refused:
        refuse_overlaps(given)
    return str(refused.value)


def tar(path: str) -> dict[str, str]:
    return {"kind": "tar", "path": path}


@pytest.mark.parametrize(
    ("places", "keys"),
    [
        ({"sink": "inbox"}, ("sink.path", "sources.inbox.path")),
        ({"sink": "inbox/captions"}, ("sink.path", "sources.inbox.path")),
        ({"sink": "inbox/done"}, ("sink.path", "sources.inbox.path")),
        ({"sink": "inbox/failed/x"}, ("sink.path", "sources.inbox.path")),
        ({"sink": "."}, ("sources.inbox.path", "sink.path")),
        ({"sink": "a/../inbox/./x"}, ("sink.path", "sources.inbox.path")),
        ({"state": "inbox"}, ("state_dir", "sources.inbox.path")),
        ({"state": "inbox/state"}, ("state_dir", "sources.inbox.path")),
        ({"state": "captions"}, ("state_dir", "sink.path")),
        ({"state": "captions/state"}, ("state_dir", "sink.path")),
        ({"sink": "state/spool"}, ("sink.path", "state_dir")),
        ({"a": "state/spool/x"}, ("sources.a.path", "state_dir")),
        ({"a": "in", "b": "in"}, ("sources.b.path", "sources.a.path")),
        ({"a": "in", "b": "in/sub"}, ("sources.b.path", "sources.a.path")),
        ({"a": "in/sub", "b": "in"}, ("sources.a.path", "sources.b.path")),
        ({"a": "in", "b": "in/done"}, ("sources.b.path", "sources.a.path")),
        ({"a": "in", "t": tar("in/films.tar")}, ("sources.t.path", "sources.a.path")),
    ],
)
def test_places_that_lie_in_each_other_are_refused(
    tmp_path: Path, places: dict[str, Any], keys: tuple[str, str]
) -> None:
    said = refusal(settings(tmp_path, **places))

    assert said.startswith(f"{keys[0]}: ")
    assert keys[1] in said


@pytest.mark.parametrize(
    "places",
    [
        {},
        {"a": "in/a", "b": "in/b"},
        {"a": "in", "b": "in2", "sink": "in3"},
        {"state": ".", "sink": "captions", "a": "inbox"},  # as a service has them
        {"sink": "out", "t": tar("out/films.tar"), "u": tar("out/films.tar")},
        {"sink": "x/captions", "state": "x"},
    ],
)
def test_places_that_lie_apart_are_accepted(tmp_path: Path, places: dict[str, Any]) -> None:
    for existing in (False, True):
        if existing:
            for name in ("in/a", "in/b", "inbox", "captions", "state", "out"):
                (tmp_path / name).mkdir(parents=True, exist_ok=True)
        refuse_overlaps(settings(tmp_path, **places))


@pytest.mark.parametrize("exists", [True, False])
def test_links_are_resolved(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "link").symlink_to("inbox")
    (tmp_path / "loop").symlink_to("loop")
    if exists:
        (tmp_path / "inbox/captions").mkdir()

    assert "sources.inbox.path" in refusal(settings(tmp_path, sink="link/captions"))
    assert "sources.a.path" in refusal(settings(tmp_path, a="link", b="inbox"))
    refuse_overlaps(settings(tmp_path, sink="loop"))


@contextmanager
def bound(source: Path, at: Path) -> Iterator[None]:
    """Give a folder a second place, and skip the test where that is not allowed."""
    at.mkdir(parents=True)
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or os.geteuid() != 0:
        pytest.skip("mounts are made by root")
    if subprocess.run([mount, "--bind", source, at], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        subprocess.run([umount, "-l", at], check=True)


def test_mounts_are_seen_through(tmp_path: Path) -> None:
    (tmp_path / "inbox/sub/deep").mkdir(parents=True)
    with bound(tmp_path / "inbox", tmp_path / "else where"):
        assert "sources.inbox.path" in refusal(settings(tmp_path, sink="else where"))
        assert "sources.inbox.path" in refusal(settings(tmp_path, sink="else where/new/captions"))
        assert "sources.b.path" in refusal(settings(tmp_path, a="inbox", b="else where"))
    with bound(tmp_path / "inbox/sub", tmp_path / "part"):
        assert "sources.inbox.path" in refusal(settings(tmp_path, sink="part/deep"))
        refuse_overlaps(settings(tmp_path, sink="parted"))


@pytest.mark.parametrize("top", ["work", "done", "failed"])
def test_a_mount_where_ended_clips_are_renamed_to_is_refused(tmp_path: Path, top: str) -> None:
    (tmp_path / "disk").mkdir()
    with bound(tmp_path / "disk", tmp_path / "inbox" / top):
        said = refusal(settings(tmp_path))

    assert said.startswith(f"sources.inbox.path: {top}/ in it is a mount of its own")


@pytest.mark.parametrize("command", [["check"], ["run", "--once"]])
def test_the_commands_end_with_78(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "captiond.yaml").write_text(
        yaml.safe_dump(
            {
                "sources": {"cam": {"kind": "folder", "path": "inbox"}},
                "sink": {"kind": "folder", "path": "inbox/captions"},
                "engine": {"kind": "fake"},
            }
        )
    )
    config = ["-c", str(tmp_path / "captiond.yaml")]

    ended = subprocess.run(
        [sys.executable, "-m", "daemon", *command, *config], capture_output=True, text=True, cwd=ROOT
    )

    assert ended.returncode == 78
    assert "sink.path: " in ended.stderr
    assert "sources.cam.path" in " ".join(ended.stderr.split())
    assert not (tmp_path / "inbox").exists()
