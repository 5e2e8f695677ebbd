"""The cage of a decoding child, tried in a child of its own that has imported all that a decoder has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.memory_file import make
from testing.repository import ROOT
from tests.probe import deeds

pytestmark = pytest.mark.slow  # it starts decoders

IMPORT = (
    "import os, sys\nfrom daemon.decoding.child import fork_server\n"
    "from daemon.decoding.child.cage import sandbox\nfork_server.import_everything()\n"
)
CONFINE = IMPORT + "layers = sandbox.confine(4 * 2**30, os.getppid())\nmissing = [n for n in layers if layers[n]]\n"
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

DEEDS = """
from tests.probe import deeds
{confine}
at = deeds.Context(os.getppid(), {inbox!r}, {neighbour!r}, {secret!r})
print(deeds.outcome(at))
"""


def run(code: str, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", code]
    environment = {**ENVIRONMENT, **{name: str(value) for name, value in more.pop("env", {}).items()}}  # type: ignore[attr-defined]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", check=False, env=environment, **more)  # type: ignore[call-overload,no-any-return]


def test_every_layer_is_there() -> None:
    """The kernel says so of the process too, and of each of its threads."""
    code = (
        "status = os.open('/proc/self/status', os.O_RDONLY)\n"
        + CONFINE
        + "print(missing, os.pread(status, 9999, 0).decode())"
    )

    done = run(code.replace("status = os", "import os; status = os", 1))

    assert done.stdout.startswith("[] ")
    for line in ("Seccomp:\t2", "NoNewPrivs:\t1", "Threads:\t1", "CapEff:\t0000000000000000"):
        assert line in done.stdout


def test_nothing_that_a_decoder_does_not_need_can_be_done(tmp_path: Path) -> None:
    for name in ("inbox", "secret"):
        (tmp_path / name).mkdir()
    neighbour, secret = tmp_path / "inbox" / "neighbour.mp4", tmp_path / "secret" / "password"
    neighbour.write_bytes(b"clip")
    secret.write_text("password")

    places = {"inbox": str(tmp_path / "inbox"), "neighbour": str(neighbour), "secret": str(secret)}
    done = run(DEEDS.format(confine=CONFINE, **places))

    outcome = done.stdout.strip()
    names = list(deeds.deeds(deeds.Context(1, ".", ".", ".")))
    assert len(outcome) == len(names) >= 60, done.stderr
    is_open = [name for name, held in zip(names, outcome, strict=True) if held != "1"]
    # the kernel bounds no tasks of root's: `make probe` tries it as another user
    assert [name for name in is_open if name != "start 3,000 threads" or os.geteuid() != 0] == [], done.stderr
    assert neighbour.read_bytes() == b"clip"


def test_a_second_thread_keeps_the_cage_open_to_nobody() -> None:
    """A thread that runs before would stay outside: the layer is missing, and a decoder that requires it ends."""
    code = "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"

    done = run(code + CONFINE + "print(sorted(missing))")

    assert done.stdout.strip() == "['one_thread']"


def test_memory_made_by_the_parent_can_be_written_and_threads_run_inside() -> None:
    code = CONFINE + (
        "os.pwrite(int(os.environ['MEMORY']), b'hello', 0)\n"
        "import threading; thread = threading.Thread(target=print, args=('ran',)); thread.start(); thread.join()\n"
    )
    memory = make("test", 100)

    done = run(code, pass_fds=[memory], env={"MEMORY": memory})

    assert done.stdout.strip() == "ran", done.stderr
    assert os.pread(memory, 5, 0) == b"hello"
    os.close(memory)


def test_neither_the_clip_nor_what_is_behind_the_memory_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"media")
    clip, memory = os.open(tmp_path / "clip.mp4", os.O_RDONLY), make("test", 100)
    code = CONFINE + (
        "def fails(name, at):\n"
        "    try: os.pwrite(int(os.environ[name]), b'x', at)\n"
        "    except OSError as error: return error.strerror\n"
        "print(fails('CLIP', 0), '-', fails('MEMORY', 100), '-', fails('MEMORY', 2**50))\n"
    )

    done = run(code, pass_fds=[clip, memory], env={"CLIP": clip, "MEMORY": memory})

    assert done.stdout.strip() == "Bad file descriptor - Operation not permitted - File too large", done.stderr
    assert (tmp_path / "clip.mp4").read_bytes() == b"media"
    for descriptor in (clip, memory):
        os.close(descriptor)


@pytest.mark.parametrize("name", ["daemon.decoding.child.worker", "daemon.decoding.child.fork_server"])
def test_the_child_imports_no_model_code(name: str) -> None:
    heavy = ("torch", "vllm", "transformers", "pydantic", "kafka", "asyncio", "decord")

    done = run(f"import sys, {name}; print([heavy for heavy in {heavy} if heavy in sys.modules])")

    assert done.stdout.strip() == "[]"
