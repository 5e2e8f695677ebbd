"""A running daemon whose decoder is taken over by the clip that it opens: a copy of the program with one line more."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import time
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
        if os.geteuid() == 0:
            user = pwd.getpwnam(NOBODY)
            for path in (scratch, *scratch.rglob("*")):
                os.chown(path, user.pw_uid, user.pw_gid)

    def run(self) -> tuple[list[Finding], str]:
        """Start the daemon, give it the clip, and return what became of each deed, and the daemon's log."""
        log = self.scratch / "daemon.log"
        command = [sys.executable, "-P", "-m", "daemon", "run", "-c", str(self.config)]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(self.program), "CAPTIOND_SECRET": "secret"}
        with log.open("wb") as out:
            process = subprocess.Popen(
                as_nobody(command, self.scratch), cwd=self.program, env=environment, stdout=out, stderr=out
            )
        try:
            self._wait(lambda: "Ready" in log.read_text(), process, log)
            context = deeds.Context(process.pid, str(self.inbox), str(self.neighbour), str(self.secret))
            clip = deeds.MARK + repr(asdict(context)).encode() + b"\n"
            (self.scratch / "clip").write_bytes(clip)
            (self.scratch / "clip").rename(self.inbox / "clip.mp4")
            self._wait(lambda: any((self.inbox / "failed").glob("*.json")), process, log)
            reason = json.loads(next((self.inbox / "failed").glob("*.json")).read_text())
            alive = process.poll() is None
        finally:
            process.terminate()
            process.wait(60)
        outcome = reason["detail"].partition("probed ")[2]
        names = list(deeds.deeds(context))
        if len(outcome) != len(names):
            raise AssertionError(f"{reason}\n{log.read_text()}")
        findings = [Finding(name, held == "1") for name, held in zip(names, outcome, strict=True)]
        return [*findings, Finding("the daemon goes on", alive)], log.read_text()

    def _wait(self, condition, process, log: Path) -> None:  # type: ignore[no-untyped-def]
        begun_s = time.monotonic()
        while not condition():
            if process.poll() is not None or time.monotonic() - begun_s > DEADLINE_S:
                raise AssertionError(log.read_text())
            time.sleep(0.05)
