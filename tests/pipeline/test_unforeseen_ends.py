"""The clip that ends the program is rejected after a few starts, and no other; other ends count against no clip."""

import json
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from testing.load import WINDOWS_EACH, write_load_clip
from testing.power_cut import power_cut
from testing.repository import ROOT
from tests.pipeline.daemon_process import FolderJob
from tests.pipeline.test_stops import NAMES, Running, finish, job_of, written

pytestmark = pytest.mark.timeout(240)

FEW = "windows: {window_s: 1.0}\nframes: {num_frames: 2}\nlimits: {max_clips_in_flight: 4}\n"
KILLED, BUG = -signal.SIGKILL, 70
BLAMED = "In flight when the program ended: it runs alone next."


def run_struck(config: Path, fault: str, name: str, *, at_most: int = WINDOWS_EACH + 1) -> tuple[list[int], str]:
    """Start a daemon again and again, as systemd does, until one ends well; return how each ended and all they said."""
    codes, said = list[int](), ""
    command = [sys.executable, "-m", "tests.pipeline.struck_daemon", str(config), fault, name]
    while len(codes) < at_most and (not codes or codes[-1] != 0):
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        codes.append(ended.returncode)
        said += ended.stderr
    return codes, said


def records(folder: Path) -> list[dict[str, object]]:
    """Return what the files of clips in flight say."""
    files = sorted((folder / "state" / "in-flight").glob("[0-9]*"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        pytest.param("killed_at_plan", KILLED, marks=pytest.mark.thorough),  # as two tests below
        ("killed_at_engine", KILLED),
        pytest.param("killed_at_publish", KILLED, marks=pytest.mark.thorough),  # as memory_at_publish
        ("recursion_at_plan", BUG),
        ("memory_at_publish", BUG),
        ("key_at_settle", BUG),
        pytest.param("panic_at_engine", BUG, marks=pytest.mark.thorough),  # as killed_at_engine
    ],
)
def test_the_clip_that_ends_the_program_is_rejected_after_a_few_starts(tmp_path: Path, fault: str, code: int) -> None:
    job = FolderJob(tmp_path, engine="{kind: fake, delay_ms: 20, slots: 4}", more=FEW)
    names = [f"c{number}.mp4" for number in range(7)]
    for name in names:
        write_load_clip(job.inbox / name)

    codes, said = run_struck(job.config(), fault, "c2.mp4")

    # an end counts while nothing is beside the clip, or by its own error, and once it does not get on any more
    assert codes in [[code] * ends + [0] for ends in range(2, 6)], said
    assert [path.name for path in job.failed.glob("*.mp4")] == ["c2.mp4"]
    reason = job.reason("c2.mp4")
    assert (reason["reason"], reason["origin"]) == ("killer", "program")
    assert "captiond replay" in reason["detail"]
    for name in set(names) - {"c2.mp4"}:
        assert [message["window"]["index"] for message in job.messages(name)] == list(range(WINDOWS_EACH)), said
    assert records(tmp_path) == []
    assert ("Traceback" in said) == (code == BUG)


def test_a_clip_that_gets_on_between_kills_is_captioned_whole(tmp_path: Path) -> None:
    job = FolderJob(tmp_path, engine="{kind: fake, delay_ms: 20, slots: 1}", more=FEW)
    write_load_clip(job.inbox / "c.mp4")

    codes, said = run_struck(job.config(), "killed_when_advanced", "c.mp4")

    assert codes[:3] == [KILLED] * 3, said
    assert codes[-1] == 0, said
    assert (job.done / "c.mp4").is_file(), said
    assert [message["window"]["index"] for message in job.messages("c.mp4")] == list(range(WINDOWS_EACH)), said


def test_a_rejected_killer_that_is_put_back_runs_again(tmp_path: Path) -> None:
    job = FolderJob(tmp_path, more=FEW)
    write_load_clip(job.inbox / "c.mp4")
    assert run_struck(job.config(), "killed_at_plan", "c.mp4")[0] == [KILLED, KILLED, 0]

    (job.failed / "c.mp4").rename(job.inbox / "c.mp4")
    said = job.run_once()

    assert (job.done / "c.mp4").is_file(), said
    assert BLAMED not in said


def test_two_killers_and_their_neighbours_in_an_archive(tmp_path: Path) -> None:
    job = FolderJob(tmp_path, engine="{kind: fake, delay_ms: 20, slots: 4}", more=FEW)
    names = [f"c{number}{'-bad' if number in (1, 3) else ''}.mp4" for number in range(6)]
    for name in names:
        write_load_clip(tmp_path / name)
    with tarfile.open(tmp_path / "films.tar", "w") as archive:
        for name in names:
            archive.add(tmp_path / name, name)
    config = job.config()
    config.write_text(re.sub("  inbox: .*", "  inbox: {kind: tar, path: films.tar, settle_s: 0.1}", config.read_text()))

    codes, said = run_struck(config, "killed_at_plan", "-bad", at_most=9)

    assert codes[-1] == 0, said
    assert set(codes[:-1]) == {KILLED}
    for name in names:
        found = job.messages(name)
        if "bad" in name:
            assert [message.get("reason") for message in found] == ["killer"]
        else:
            assert [message["window"]["index"] for message in found] == list(range(WINDOWS_EACH))


def killed_under_load(tmp_path: Path) -> FolderJob:
    job = job_of(tmp_path)
    daemon = Running(job)
    daemon.until(lambda: written(job) >= 3)
    daemon.process.kill()
    assert daemon.end()[0] == KILLED
    return job


def test_a_kill_from_outside_makes_the_clips_in_flight_run_alone_and_rejects_none(tmp_path: Path) -> None:
    job = killed_under_load(tmp_path)
    held = [record for record in records(tmp_path) if record.get("state") in ("held", "advanced")]

    said = job.run_once()

    assert said.count(BLAMED) == len(held) > 1
    assert not list(job.failed.glob("*"))
    finish(job)


@pytest.mark.thorough
def test_a_machine_that_was_started_again_blames_no_clip(tmp_path: Path) -> None:
    job = killed_under_load(tmp_path)
    power_cut(tmp_path / "state")

    said = job.run_once()

    assert "the machine was started again since" in said
    assert BLAMED not in said
    finish(job)


@pytest.mark.thorough
def test_a_stop_leaves_nothing(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    daemon = Running(job)
    daemon.until(lambda: written(job) >= 3)
    assert len(records(tmp_path)) > 1

    daemon.terminate()

    assert daemon.end()[0] == 0
    assert records(tmp_path) == []
    assert BLAMED not in job.run_once()
    assert records(tmp_path) == []
    finish(job)


def test_a_kill_in_the_middle_of_a_stop_blames_no_clip(tmp_path: Path) -> None:
    struck = tmp_path / "struck"
    job = job_of(tmp_path, f"{{hang_at_request: 8, once: {struck}}}")
    daemon = Running(job)
    daemon.until(struck.exists)
    daemon.terminate()
    daemon.until_logged("Stopping: the windows in flight")
    daemon.until(lambda: records(tmp_path)[0].get("stopping") is True)
    daemon.process.kill()
    assert daemon.end()[0] == KILLED

    said = job.run_once()

    assert "it was being stopped" in said
    assert BLAMED not in said
    finish(job)


@pytest.mark.thorough
def test_an_engine_that_dies_counts_once_and_not_as_an_end_of_the_program(tmp_path: Path) -> None:
    struck = tmp_path / "struck"
    job = job_of(tmp_path, f"{{die_at_request: 8, once: {struck}}}")

    assert "In flight when the engine died" in job.run_once(expect=75)
    assert records(tmp_path) == []
    assert BLAMED not in job.run_once()

    assert not list(job.failed.glob("*"))
    assert all((job.done / name).is_file() for name in NAMES)
