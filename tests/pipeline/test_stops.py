"""SIGTERM, once and twice, under load and while the engine is waited for: exit 0 in time, and each window once."""

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from testing.load import WINDOWS_EACH, write_load_clip
from tests.pipeline.daemon_process import FolderJob

pytestmark = pytest.mark.timeout(120)

NAMES = [f"c{number}.mp4" for number in range(4)]
LONG_DRAIN = "windows: {window_s: 1.0}\nframes: {num_frames: 2}\ntimeouts: {drain_s: 300}\n"
PROMPT_S = 90.0  # far below the drain


class Running:
    """A daemon that runs, and what it has logged."""

    def __init__(self, job: FolderJob, *arguments: str, patience_s: float = 100.0) -> None:
        self.process, self._patience_s = job.start(*arguments), patience_s
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def until(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + self._patience_s
        while not condition():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline_s, self.log()
            time.sleep(0.02)

    def until_logged(self, words: str) -> None:
        self.until(lambda: words in self.log())

    def log(self) -> str:
        return "".join(list(self.lines))

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> tuple[int, float]:
        """Return the exit code, and how many seconds it took from now on."""
        begun_s = time.monotonic()
        try:
            code = self.process.wait(timeout=self._patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code, time.monotonic() - begun_s


def job_of(tmp_path: Path, script: str = "{}") -> FolderJob:
    faults = tmp_path / "faults.yaml"
    faults.write_text(f"{script}\n")
    job = FolderJob(tmp_path, engine=f"{{kind: fake, delay_ms: 500, slots: 2, script: {faults}}}", more=LONG_DRAIN)
    for name in NAMES:
        write_load_clip(job.inbox / name)
    return job


def written(job: FolderJob) -> int:
    return sum(file.read_bytes().count(b"\n") for file in job.captions.glob("*.jsonl")) if job.captions.is_dir() else 0


def finish(job: FolderJob) -> None:
    """Let another daemon take up what is left, without delay; each window must be there once."""
    (job.folder / "faults.yaml").write_text("delays_ms: {'': 0}\n")
    job.run_once()
    for name in NAMES:
        assert (job.done / name).is_file()
        assert [message["window"]["index"] for message in job.messages(name)] == list(range(WINDOWS_EACH))


def test_a_signal_drains_windows_and_not_clips(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    daemon = Running(job)
    daemon.until(lambda: written(job) >= 3)

    daemon.terminate()
    code, took_s = daemon.end()

    assert (code, "Stopped before" in daemon.log()) == (0, False)
    assert took_s < PROMPT_S
    assert 3 <= written(job) < len(NAMES) * WINDOWS_EACH
    finish(job)


def test_a_second_signal_ends_the_drain_at_once(tmp_path: Path) -> None:
    struck = tmp_path / "struck"
    job = job_of(tmp_path, f"{{hang_at_request: 8, once: {struck}}}")
    daemon = Running(job)
    daemon.until(struck.exists)

    daemon.terminate()
    daemon.until_logged("Stopping: the windows in flight")
    with pytest.raises(subprocess.TimeoutExpired):
        daemon.process.wait(timeout=1.5)
    daemon.terminate()
    code, took_s = daemon.end()

    assert code == 0
    assert took_s < PROMPT_S
    assert "Stopped before every window in flight was finished" in daemon.log()
    finish(job)


def test_a_stop_while_the_engine_is_waited_for(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    fake = job.engine
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        job.engine = f"{{kind: openai, base_urls: ['http://127.0.0.1:{taken.getsockname()[1]}/v1'], model: m}}"
        daemon = Running(job)
        daemon.until_logged("A server of the engine is away and is waited for")

        daemon.terminate()
        code, took_s = daemon.end()

    assert code == 0
    assert took_s < PROMPT_S
    assert all((job.inbox / name).is_file() for name in NAMES)
    job.engine = fake
    finish(job)
