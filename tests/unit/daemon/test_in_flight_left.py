"""Whatever is found in the place of the file of the clips in flight: nothing of it stops the program."""

import logging
import os
from pathlib import Path

import pytest

from daemon.in_flight_records import BLANK, State, head, read, record
from tests.unit.daemon.in_flight import A, after, opened_next

GOOD = head("x") + record("0" * 32, State.HELD)
ODD = {
    "random": os.urandom(512),
    "nested": b"[" * 100_000,
    "another_version": GOOD.replace(b'"version": 1', b'"version": 9'),
    "another_state": GOOD.replace(b"held", b"hell"),
    "no_head": record("0" * 32, State.HELD),
    "a_list": b"[]".ljust(127) + b"\n",
    "half": GOOD[:150],
    "not_utf_8": GOOD.replace(b"0000", b"\xff\xfe\xfd\xfc"),
    "too_large": BLANK * 70_000,
}


@pytest.mark.parametrize("data", ODD.values(), ids=list(ODD))
def test_what_can_not_be_understood_is_set_aside_with_one_warning(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "in-flight"
    place.mkdir()
    (place / "0").write_bytes(data)

    found = opened_next(tmp_path)

    assert [one.levelno for one in caplog.records if one.levelno >= logging.WARNING] == [logging.WARNING]
    assert (place / "0.set-aside").read_bytes() == data
    found.enter(A)
    assert after(tmp_path, found).ended(A) is State.ALONE


def test_what_a_loss_of_power_may_leave_is_no_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read(b"").clips == read(BLANK * 3).clips == ()
    assert read(GOOD).clips == (("0" * 32, State.HELD),)


@pytest.mark.parametrize("kind", ["folder", "link", "pipe", "foreign"])
def test_what_is_no_file_of_ours_is_set_aside(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, kept = tmp_path / "in-flight" / "0", tmp_path / "precious"
    place.parent.mkdir()
    kept.write_text("kept")
    if kind == "foreign":
        place.write_bytes(GOOD)
        owner = place.stat().st_uid
        real, aside = os.fstat, [os.stat_result((0o100600, 0, 0, 1, owner + 1, 0, 0, 0, 0, 0))]
        monkeypatch.setattr(os, "fstat", lambda file: aside.pop() if aside else real(file))
    else:
        {"folder": place.mkdir, "link": lambda: place.symlink_to(kept), "pipe": lambda: os.mkfifo(place)}[kind]()

    found = opened_next(tmp_path)

    assert len([one for one in caplog.records if one.levelno >= logging.WARNING]) == 1
    assert os.path.lexists(place.with_name("0.set-aside"))
    assert kept.read_text() == "kept"
    found.enter(A)
    assert after(tmp_path, found).ended(A) is State.ALONE


@pytest.mark.parametrize("what", ["folder_is_a_file", "folder_is_a_link", "state_dir_is_a_file"])
def test_without_a_place_captioning_goes_on_and_it_is_said_once(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "state"
    if what == "state_dir_is_a_file":
        state.write_text("")
    else:
        state.mkdir()
        (tmp_path / "elsewhere").mkdir()
        place = state / "in-flight"
        place.write_text("") if what == "folder_is_a_file" else place.symlink_to(tmp_path / "elsewhere")

    found = opened_next(state)
    number = found.enter(A)
    found.stopping()
    found.leave(number)
    found.forget(A)
    found.close()

    assert len(caplog.records) == 1
    assert "can't be written" in caplog.text
