"""The sandbox of a decoding child: what is forbidden in it, tried in a child of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from testing.repository import ROOT

CONFINE = "import os; from daemon.decoding.child.sandbox import confine; refused = confine(2**31, os.getppid())\n"

FORBIDDEN = {
    "a socket": "import socket; socket.socket()",
    "a socket pair": "import socket; socket.socketpair()",
    "a program": "import os; os.execv('/bin/true', ['true'])",
    "a fork": "import os; os.fork()",
    "a new file": "open('/tmp/captiond-sandbox', 'w')",
    "a file for appending": "open('/etc/hostname', 'a')",
    "a folder": "import os; os.mkdir('/tmp/captiond-sandbox')",
    "deleting": "import os; os.unlink('/tmp/no-such-file')",
    "renaming": "import os; os.rename('/tmp/no-such-file', '/tmp/another')",
    "a link": "import os; os.symlink('/etc', '/tmp/captiond-sandbox')",
    "a signal": "import os; os.kill(os.getppid(), 0)",
    "a larger memory file": "import os; os.ftruncate(os.memfd_create('x'), 10)",
    "much memory": "bytearray(3 * 2**30)",
}


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", CONFINE + code], capture_output=True, text=True, cwd=ROOT, check=False)


def test_every_measure_is_taken() -> None:
    done = run("print(refused, open('/proc/self/oom_score_adj').read().strip())")

    assert done.stdout.split() == ["[]", "900"]


@pytest.mark.parametrize("deed", FORBIDDEN)
def test_what_is_forbidden(deed: str) -> None:
    done = run(f"try:\n    {FORBIDDEN[deed]}\nexcept (OSError, MemoryError) as error:\n    print(type(error).__name__)")

    assert done.stdout.strip() in ("PermissionError", "MemoryError", "OSError")
    assert not Path("/tmp/captiond-sandbox").exists()


def test_memory_made_by_the_parent_can_be_written() -> None:
    code = (
        "import os, mmap\n"
        "memory = int(os.environ['MEMORY'])\n"
        "mmap.mmap(memory, 100)[:5] = b'hello'\n"
        "import threading; thread = threading.Thread(target=print, args=('ran',)); thread.start(); thread.join()\n"
    )
    import os

    memory = os.memfd_create("test")
    os.ftruncate(memory, 100)
    done = subprocess.run(
        [sys.executable, "-c", CONFINE + code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        pass_fds=[memory],
        env={**os.environ, "MEMORY": str(memory)},
    )

    assert done.stdout.strip() == "ran"
    assert os.pread(memory, 5, 0) == b"hello"
    os.close(memory)
