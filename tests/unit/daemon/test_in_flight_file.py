"""The file of the clips in flight: what it says after any end; nothing found in its place stops the program."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.contract import Clip
from connectors.media.bytes import BytesMedia
from daemon import in_flight_file
from daemon.in_flight_file import InFlightFile
from daemon.in_flight_records import BLANK, RECORD_BYTES, State, head, key_of, read, record
from testing.power_cut import power_cut


def clip(name: str) -> Clip:
    return Clip(name, "inbox", BytesMedia(name, b"x"), time.time_ns())


A, B, C = clip("a"), clip("b"), clip("c")


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[InFlightFile]:
    file = InFlightFile(tmp_path, 4)
    file.open()
    yield file
    file.abandon()


def after(tmp_path: Path, file: InFlightFile) -> InFlightFile:
    """Return the next daemon's, after one that was killed."""
    file.abandon()
    return opened_next(tmp_path)


def opened_next(tmp_path: Path) -> InFlightFile:
    found = InFlightFile(tmp_path, 4)
    found.open()
    return found


def test_a_kill_tells_one_alone_from_several(tmp_path: Path, opened: InFlightFile) -> None:
    opened.leave(opened.enter(C))
    for one in (A, B):
        opened.enter(one)
    found = after(tmp_path, opened)
    assert [found.ended(one) for one in (A, B, C)] == [State.BESIDE, State.BESIDE, None]

    found.enter(A)
    found = after(tmp_path, found)
    assert [found.ended(one) for one in (A, B, C)] == [State.ALONE, State.BESIDE, None]

    found.forget(A)
    found.enter(C)
    found = after(tmp_path, found)
    assert [found.ended(one) for one in (A, B, C)] == [None, State.BESIDE, State.ALONE]

    found.enter(C)
    found = after(tmp_path, found)
    assert [found.ended(one) for one in (A, B, C)] == [None, State.BESIDE, State.TWICE]
    found.close()


def test_a_clip_that_got_on_is_never_called_alone(tmp_path: Path, opened: InFlightFile) -> None:
    opened.enter(A)
    opened.advance(A)
    found = after(tmp_path, opened)
    assert found.ended(A) is State.BESIDE

    found.advance(B)  # of a clip that is not in flight there is nothing to say
    found.leave(found.enter(A))
    found.enter(A)
    found = after(tmp_path, found)
    assert (found.ended(A), found.ended(B)) == (State.ALONE, None)

    number = found.enter(A)
    found.advance(A)  # what counted before counts no more
    found.blame(number)
    assert after(tmp_path, found).ended(A) is State.BESIDE


def test_a_clean_end_leaves_an_empty_file(tmp_path: Path, opened: InFlightFile) -> None:
    opened.leave(opened.enter(A))
    opened.close()

    assert (tmp_path / "in-flight" / "0").read_bytes() == b""
    assert opened_next(tmp_path).ended(A) is None


def test_a_stop_keeps_what_counted_before_it(tmp_path: Path, opened: InFlightFile) -> None:
    opened.enter(A)
    found = after(tmp_path, opened)
    found.enter(B)
    found.stopping()

    found = after(tmp_path, found)

    assert (found.ended(A), found.ended(B)) == (State.ALONE, None)
    found.close()
    assert opened_next(tmp_path).ended(A) is State.ALONE


def test_another_run_of_the_machine_counts_against_nobody(tmp_path: Path, opened: InFlightFile) -> None:
    opened.enter(A)
    found = after(tmp_path, opened)
    found.enter(B)
    found.abandon()
    power_cut(tmp_path)

    found = opened_next(tmp_path)

    assert (found.ended(A), found.ended(B)) == (State.ALONE, None)


def test_a_bug_within_a_clips_task_counts_against_it_alone(tmp_path: Path, opened: InFlightFile) -> None:
    numbers = [opened.enter(one) for one in (A, B)]
    opened.blame(numbers[0])
    opened.leave(numbers[1])
    opened.close()

    found = opened_next(tmp_path)
    assert (found.ended(A), found.ended(B)) == (State.ALONE, None)
    found.enter(B)
    found.blame(found.enter(A))
    found.close()
    assert opened_next(tmp_path).ended(A) is State.TWICE


def test_daemons_that_share_a_folder_have_a_file_each_and_the_next_takes_over(
    tmp_path: Path, opened: InFlightFile
) -> None:
    other = opened_next(tmp_path)
    opened.enter(A)
    other.enter(B)
    other.enter(C)
    third = opened_next(tmp_path)
    assert [third.ended(one) for one in (A, B, C)] == [None] * 3
    third.close()

    other.abandon()
    found = after(tmp_path, opened)

    assert [found.ended(one) for one in (A, B, C)] == [State.ALONE, State.BESIDE, State.BESIDE]
    assert (tmp_path / "in-flight" / "1").read_bytes() == b""
    found.close()


def test_clips_are_digests_in_records_of_one_size(tmp_path: Path, opened: InFlightFile) -> None:
    name = "\x1b]52;c;evil\x07" * 10_000
    opened.enter(clip(name))

    data = (tmp_path / "in-flight" / "0").read_bytes()

    assert len(data) == 5 * RECORD_BYTES
    assert b"evil" not in data
    assert all(line.isascii() and line.decode().isprintable() for line in data.splitlines())
    assert (tmp_path / "in-flight" / "0").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "in-flight").stat().st_mode & 0o777 == 0o700


def test_more_clips_than_were_foreseen_have_records_too(tmp_path: Path, opened: InFlightFile) -> None:
    clips = [clip(str(number)) for number in range(9)]
    for number in [opened.enter(one) for one in clips][:3]:
        opened.leave(number)

    found = after(tmp_path, opened)

    assert [found.ended(one) is None for one in clips] == [True] * 3 + [False] * 6


def test_the_oldest_that_never_came_again_are_forgotten(
    tmp_path: Path, opened: InFlightFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_flight_file, "_MAX_ENDED", 2)
    for one in (A, B, C):
        opened.enter(one)

    found = after(tmp_path, opened)

    assert [found.ended(one) for one in (A, B, C)] == [None, State.BESIDE, State.BESIDE]


def test_a_clip_costs_two_writes(opened: InFlightFile, monkeypatch: pytest.MonkeyPatch) -> None:
    writes, real = list[int](), os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda *given: writes.append(given[2]) or real(*given))
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("nothing is synced"))

    for _ in range(5):
        opened.leave(opened.enter(A))

    assert len(writes) == 10


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


def test_a_disk_that_fails_later_is_said_once(
    tmp_path: Path, opened: InFlightFile, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pwrite", fail)
    for _ in range(3):
        opened.leave(opened.enter(A))

    assert len(caplog.records) == 1


def test_a_child_that_is_forked_and_outlives_a_daemon_holds_no_lock(tmp_path: Path, opened: InFlightFile) -> None:
    opened.enter(A)
    (reader, writer), (is_there, here) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.write(here, b"x")
        os.read(reader, 1)  # until the test is over
        os._exit(0)
    os.close(reader)
    os.read(is_there, 1)
    try:
        assert after(tmp_path, opened).ended(A) is State.ALONE
    finally:
        for end in (writer, is_there, here):
            os.close(end)
        os.waitpid(child, 0)


def test_a_real_kill_leaves_whole_records(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "from pathlib import Path\n"
        "from tests.unit.daemon.test_in_flight_file import A, B\n"
        "from daemon.in_flight_file import InFlightFile\n"
        f"file = InFlightFile(Path({str(tmp_path)!r}), 4)\n"
        "file.open()\nprint('on', flush=True)\n"
        "while True:\n    for number in [file.enter(A), file.enter(B)]:\n        file.leave(number)\n"
    )
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.kill()
        data = (tmp_path / "in-flight" / "0").read_bytes()
        assert {key for key, _ in read(data).clips} <= {key_of(A), key_of(B)}
        json.loads(data[:RECORD_BYTES])
