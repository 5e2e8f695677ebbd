"""The file of the clips in flight: what it says after any end."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import in_flight_file
from daemon.in_flight_file import InFlightFile
from daemon.in_flight_records import RECORD_BYTES, State, key_of, read
from testing.power_cut import power_cut
from tests.unit.daemon.in_flight import A, B, C, after, clip, opened_next


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[InFlightFile]:
    file = InFlightFile(tmp_path, 4)
    file.open()
    yield file
    file.abandon()


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
        "from tests.unit.daemon.in_flight import A, B\n"
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
