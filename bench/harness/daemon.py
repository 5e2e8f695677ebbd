"""A daemon that is measured: started over a configuration, and stopped."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 120.0


@contextmanager
def daemon(config: Path, *module: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Hold a daemon that is ready: the real one, or what ``module`` runs."""
    log = config.with_suffix(".log")
    command = [sys.executable, "-m", *(module or ("daemon", "run", "-c")), str(config)]
    with log.open("w") as out:
        process = subprocess.Popen(command, stderr=out, stdout=out)
    try:
        wait_ready(process, log)
        yield process
        process.terminate()
        process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_ready(process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until a daemon says in its log that it is ready."""
    until_s = time.monotonic() + START_S
    while "Ready:" not in log.read_text():
        if process.poll() is not None or time.monotonic() > until_s:
            raise RuntimeError(log.read_text()[-2000:])
        time.sleep(0.02)
