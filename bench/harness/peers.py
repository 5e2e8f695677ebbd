"""The peers of the sampler: their environment, made once, and a process of them that answers."""

import importlib.metadata
import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

NAMES = ("decord", "torchcodec", "OpenCV", "PyAV", "PyAV, seeking")
LEAST = "the least"  # the decoder's own limit, which runs in captiond's environment: the same libavcodec
_PROGRAM = Path(__file__).with_name("peer.py")
_PACKAGES = ("numpy", "decord==0.6.0", "opencv-python-headless==5.0.0.93", "torchcodec==0.13.0")


def environment(folder: Path) -> Path:
    """Return the Python of the peers' environment, after making that where it is not there yet."""
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        print(f"Installing the peers into {folder}.", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        same = [f"{name}=={importlib.metadata.version(name)}" for name in ("av", "torch")]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *_PACKAGES, *same], check=True)
        done.touch()
    return python


class Peer:
    """A process that answers for the peers, one request at a time."""

    def __init__(self, python: Path | str = sys.executable) -> None:
        self._process = subprocess.Popen(
            [str(python), str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def send(self, asked: dict[str, Any]) -> None:
        """Ask."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Wait for the answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"error": "it died"}

    def ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Ask and wait."""
        self.send(asked)
        return self.receive()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
