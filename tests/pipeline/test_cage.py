"""The cage through the real commands: what a kernel without Landlock means, and what does not come in from outside."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from testing.load import write_load_clip
from testing.repository import ROOT

# a filter of system calls, as a container may have one: Landlock's three answer that the kernel does not know them
WITHOUT_LANDLOCK = """
import ctypes, os, platform, struct, sys
assert platform.machine() in ("x86_64", "aarch64")
steps = [(0x20, 0, 0, 0), (0x35, 0, 2, 444), (0x35, 1, 0, 447), (0x06, 0, 0, 0x00050026), (0x06, 0, 0, 0x7FFF0000)]
code = b"".join(struct.pack("<HBBI", *step) for step in steps)
block = ctypes.create_string_buffer(code, len(code))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(block)), 16)
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.addressof(program), 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-m", "daemon", *sys.argv[1:]])
"""
CONFIG = (
    "sources: {inbox: {kind: folder, path: inbox, settle_s: 0.1}}\nsink: {kind: folder, path: captions}\n"
    "engine: {kind: fake}\nhttp: null\n"
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    write_load_clip(tmp_path / "inbox" / "a.mp4", 2)
    path = tmp_path / "captiond.yaml"
    path.write_text(CONFIG)
    return path


def captiond(*arguments: str, start: str | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "daemon"] if start is None else [sys.executable, "-c", start]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([*command, *arguments], cwd=cwd, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("command", [("run", "--once"), ("check",)])
def test_a_kernel_without_landlock_is_refused(config: Path, command: tuple[str, ...]) -> None:
    done = captiond(*command, "-c", str(config), start=WITHOUT_LANDLOCK)

    assert done.returncode == 78
    said = done.stdout + done.stderr
    assert "limits.sandbox: decoders can't be confined on this machine, it lacks landlock" in said
    assert (config.parent / "inbox" / "a.mp4").is_file()


def test_best_goes_on_and_says_so(config: Path) -> None:
    arguments = ("-c", str(config), "--set", "limits.sandbox=best")

    ran = captiond("run", "--once", *arguments, start=WITHOUT_LANDLOCK)
    checked = captiond("check", *arguments, start=WITHOUT_LANDLOCK)

    assert (ran.returncode, checked.returncode) == (0, 0)
    assert "A decoder runs without: landlock." in ran.stderr
    assert "# Decoders run without landlock: limits.sandbox is best." in checked.stdout
    assert (config.parent / "captions" / "inbox" / "a.mp4.jsonl").is_file()


def test_check_names_each_layer(config: Path) -> None:
    done = captiond("check", "-c", str(config), "--sandbox")

    assert done.returncode == 0
    for layer in ("one_thread", "rlimits", "no_new_privileges", "landlock", "seccomp"):
        assert f"# The decoders' cage: {layer} holds." in done.stdout


def test_no_module_beside_the_clips_is_imported(config: Path) -> None:
    """``av.py`` in the folder that somebody stands in ran before, and outside the cage."""
    inbox = config.parent / "inbox"
    for name in ("av", "numpy", "json", "socket"):
        (inbox / f"{name}.py").write_text(f"open({str(config.parent / 'ran')!r}, 'a').write({name!r})\n")
    program = "import sys; sys.path.remove(''); from daemon.__main__ import main; main()"

    done = captiond("caption", "a.mp4", "--set", "engine.kind=fake", start=program, cwd=inbox)

    assert done.returncode == 0, done.stderr
    assert not (config.parent / "ran").exists()
