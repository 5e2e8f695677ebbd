"""A running daemon whose decoder is taken over by the clip that it opens: a copy of the program with one line more."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from testing.repository import ROOT
from tests.probe import deeds

NOBODY = "nobody"
DEADLINE_S = 120.0
_TAKEN_OVER = """

# the line more: a clip that begins with the mark takes the decoder over
from daemon.decoding.child import deeds as _deeds  # noqa: E402

_open_container = open_container


def open_container(descriptor: int, limits: MediaLimits, **more_options: str) -> Any:
    clip = os.pread(descriptor, HEAD_BYTES, 0)
    if clip.startswith(_deeds.MARK):
        raise Poison(Reason.CORRUPT, "probed " + _deeds.probe(clip))
    return _open_container(descriptor, limits, **more_options)
"""


@dataclass(frozen=True)
class Finding:
    """What became of a deed."""

    name: str
    held: bool


def copy_of_the_program(folder: Path) -> None:
    """Copy the program; its decoder knows the deeds."""
    for package in ("connectors", "daemon", "neva"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    child = folder / "daemon" / "decoding" / "child"
    shutil.copy(Path(deeds.__file__), child / "deeds.py")
    with (child / "pyav.py").open("a") as file:
        file.write(_TAKEN_OVER)


def as_nobody(command: list[str], scratch: Path) -> list[str]:
    """Return the command as another user runs it: with no privileges, and with Python's own folders within reach.

    Folders below a home that others may not enter are bound to the same place in a mount namespace of the command's.
    """
    if os.geteuid() != 0:
        return command  # whoever this is has no privileges that root has
    user = pwd.getpwnam(NOBODY)
    wanted = [Path(place) for place in dict.fromkeys((sys.base_prefix, sys.prefix)) if not _can_be_entered(Path(place))]
    steps = []
    for number, place in enumerate(wanted):
        kept = scratch / f"kept{number}"
        kept.mkdir()
        steps.append(f'mount --bind "{place}" "{kept}"')
    steps += [f'mount -t tmpfs -o mode=0755 tmpfs "{top}"' for top in {f"/{place.parts[1]}" for place in wanted}]
    for number, place in enumerate(wanted):
        steps.append(f'mkdir -p "{place}" && mount --bind "{scratch / f"kept{number}"}" "{place}"')
    steps.append(
        f"exec setpriv --reuid {user.pw_uid} --regid {user.pw_gid} --clear-groups --inh-caps=-all "
        '--bounding-set=-all -- "$@"'
    )
    return ["unshare", "--mount", "sh", "-c", " && ".join(steps), "sh", *command]


def _can_be_entered(place: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (place, *place.parents))


def give_to_nobody(scratch: Path) -> None:
    """Let the other user have the copy and all that lies beside it."""
    if os.geteuid() == 0:
        user = pwd.getpwnam(NOBODY)
        for path in (scratch, *scratch.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid)


class CopyAtWork:
    """The daemon of a copy, run by the other user until the block ends."""

    def __init__(self, scratch: Path, program: Path, config: Path, secret: str) -> None:
        self.log = scratch / "daemon.log"
        command = [sys.executable, "-P", "-m", "daemon", "run", "-c", str(config)]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(program), "CAPTIOND_SECRET": secret}
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                as_nobody(command, scratch), cwd=program, env=environment, stdout=out, stderr=out
            )

    def __enter__(self) -> "CopyAtWork":
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.terminate()
        self._process.wait(60)

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the daemon has not ended."""
        return self._process.poll() is None

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for what the daemon does; ``AssertionError`` with its log where it ends or does not."""
        begun_s = time.monotonic()
        while not condition():
            if not self.is_alive or time.monotonic() - begun_s > DEADLINE_S:
                raise AssertionError(self.log.read_text())
            time.sleep(0.05)


class ProbedDaemon:
    """The copy, run once by another user over an inbox with a neighbour's clip and a secret beside it."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.program = scratch, scratch / "program"
        self.inbox, self.secret = scratch / "inbox", scratch / "secret" / "password"
        for folder in (self.program, self.inbox, self.secret.parent, scratch / "state", scratch / "captions"):
            folder.mkdir(parents=True)
        copy_of_the_program(self.program)
        self.secret.write_text("password")
        self.secret.chmod(0o400)
        self.neighbour = self.inbox / "neighbour.part"
        self.neighbour.write_bytes(b"a neighbour's clip")
        self.config = scratch / "captiond.yaml"
        self.config.write_text(
            f"sources: {{inbox: {{kind: folder, path: {self.inbox}, settle_s: 0.1}}}}\n"
            f"sink: {{kind: folder, path: {scratch / 'captions'}}}\nstate_dir: {scratch / 'state'}\n"
            "engine: {kind: fake}\nhttp: null\n"
        )
        give_to_nobody(scratch)

    def run(self) -> tuple[list[Finding], str]:
        """Start the daemon, give it the clip, and return what became of each deed, and the daemon's log."""
        with CopyAtWork(self.scratch, self.program, self.config, "secret") as daemon:
            daemon.until(lambda: "Ready" in daemon.log.read_text())
            context = deeds.Context(daemon.pid, str(self.inbox), str(self.neighbour), str(self.secret))
            clip = deeds.MARK + repr(asdict(context)).encode() + b"\n"
            (self.scratch / "clip").write_bytes(clip)
            (self.scratch / "clip").rename(self.inbox / "clip.mp4")
            daemon.until(lambda: any((self.inbox / "failed").glob("*.json")))
            reason = json.loads(next((self.inbox / "failed").glob("*.json")).read_text())
            alive = daemon.is_alive
        log = daemon.log.read_text()
        outcome = reason["detail"].partition("probed ")[2]
        names = list(deeds.deeds(context))
        if len(outcome) != len(names):
            raise AssertionError(f"{reason}\n{log}")
        findings = [Finding(name, held == "1") for name, held in zip(names, outcome, strict=True)]
        return [*findings, Finding("the daemon goes on", alive)], log
