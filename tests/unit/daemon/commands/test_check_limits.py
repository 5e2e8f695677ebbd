"""`captiond check` says what was chosen for the machine, and why."""

from pathlib import Path

import pytest

from daemon.commands.check import check
from daemon.config import chosen
from daemon.config.chosen import Machine
from daemon.config.file import settings_from
from daemon.config.settings import Settings


def settings(folder: Path, **limits: object) -> Settings:
    (folder / "inbox").mkdir()
    places = {
        "sources": {"inbox": {"kind": "folder", "path": "inbox"}},
        "sink": {"kind": "folder", "path": "captions"},
    }
    return settings_from({**places, "engine": {"kind": "fake"}, "limits": limits}, folder=folder)


def test_what_is_chosen_is_said_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "this_machine", lambda: Machine(16, 64 * 2**30))

    lines = check(settings(tmp_path, max_clips_in_flight="auto"))

    assert "limits.decoders: 12, chosen: three quarters of 16 cores, 2 at least and 64 at most." in lines
    assert any(line.startswith("limits.in_flight_bytes: 8,589,934,592, chosen: an eighth of 64 GiB") for line in lines)
    assert any(line.startswith("limits.max_clips_in_flight: 256, chosen: 16 a core of 16") for line in lines)


def test_what_is_written_is_not_said_to_be_chosen(tmp_path: Path) -> None:
    lines = check(settings(tmp_path, decoders=3, in_flight_bytes="64MiB", max_clips_in_flight=4))

    assert not any("chosen" in line for line in lines)
