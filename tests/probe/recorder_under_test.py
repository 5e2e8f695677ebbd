"""A running daemon whose recorder is taken over by its stream: a copy of the program with more lines."""

import json
import os
import shutil
from pathlib import Path

from tests.probe import deeds, recorder_deeds
from tests.probe.worker_under_test import CopyAtWork, Finding, copy_of_the_program, give_to_nobody

SECRETS = ("secret-of-the-daemon", "secret-of-the-garden")
"""What the recorder of the door has no business with: a variable of the daemon's, and another stream's password."""
OWN_PASSWORD = "pa55-w0rd-of-the-door"  # noqa: S105 - it protects nothing
_TAKEN_OVER = """

# the lines more: the first connection takes the recorder over that has a context
import json as _json  # noqa: E402
import os as _os  # noqa: E402
from pathlib import Path as _Path  # noqa: E402

from connectors.stream.child import deeds as _deeds  # noqa: E402
from connectors.stream.child import recorder_deeds as _of_recorders  # noqa: E402

_record = Recorder._record


def _probed(self: Recorder) -> None:
    outcome, context = _Path(self._request.folder, "outcome"), _Path(self._request.folder, "context")
    if context.exists() and not outcome.exists():
        told = _json.loads(context.read_text())
        outcome.write_text("")
        aims = _deeds.Context(_os.getppid(), *told["aims"])
        every = _of_recorders.deeds(_of_recorders.Places(**told["places"]), _deeds.deeds(aims))
        held = {name: _deeds.is_held(name, deed) for name, deed in every.items()}
        outcome.with_name("done").write_text(_json.dumps(held))
    _record(self)


Recorder._record = _probed
"""


class ProbedRecorder:
    """The copy, run by another user over two streams; nobody sends either of them."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.program = scratch, scratch / "program"
        self.config, self.streams = scratch / "captiond.yaml", scratch / "state" / "streams"
        self.own, self.other = self.streams / "door" / "recording", self.streams / "garden" / "recording"
        secrets = scratch / "secrets"
        for folder in (self.program, self.own, self.other, secrets, scratch / "captions"):
            folder.mkdir(parents=True)
        copy_of_the_program(self.program)
        child = self.program / "connectors" / "stream" / "child"
        for module in (deeds, recorder_deeds):
            shutil.copy(str(module.__file__), child)
        with (child / "recorder.py").open("a") as file:
            file.write(_TAKEN_OVER)
        (secrets / "door").write_text(OWN_PASSWORD)
        (secrets / "garden").write_text(SECRETS[1])
        neighbour = self.other / "neighbour"
        for path in (neighbour, self.own.parent / "beside"):
            path.write_text("another's")
        self._tell(str(self.other), str(neighbour), str(secrets / "garden"))
        stream = "kind: stream, url: 'rtsp://127.0.0.1:9/{0}', username: viewer, password_file: " + f"{secrets}/{{0}}"
        self.config.write_text(
            f"sources: {{door: {{{stream.format('door')}}}, garden: {{{stream.format('garden')}}}}}\n"
            f"sink: {{kind: folder, path: {scratch / 'captions'}}}\nstate_dir: {scratch / 'state'}\n"
            "engine: {kind: fake}\nhttp: null\n"
        )
        give_to_nobody(scratch)

    def _tell(self, *aims: str) -> None:
        places = {
            "own": str(self.own),
            "around": str(self.own.parent),
            "config": str(self.config),
            "secrets": [secret[::-1] for secret in SECRETS],
        }
        (self.own / "context").write_text(json.dumps({"aims": aims, "places": places}))

    def run(self) -> tuple[list[Finding], str]:
        """Start the daemon, and return what became of each deed, and the daemon's log."""
        with CopyAtWork(self.scratch, self.program, self.config, SECRETS[0]) as daemon:
            done = self.own / "done"
            daemon.until(lambda: done.exists() and done.read_text())
            held = json.loads(done.read_text())
            pid = int((self.own / "lock").read_text().split()[0])
            found = [] if os.geteuid() else [Finding("a secret in its memory", not in_memory(pid, SECRETS))]
            found.append(Finding("the daemon goes on", daemon.is_alive))
        findings = [Finding(f"recorder: {name}", is_held) for name, is_held in held.items()]
        return [*findings, *(Finding(f"recorder: {one.name}", one.held) for one in found)], daemon.log.read_text()


def in_memory(pid: int, secrets: tuple[str, ...]) -> list[str]:
    """Return the secrets that stand in a process's own memory, as its superuser reads it."""
    found: set[str] = set()
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if not rights.startswith("rw"):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            memory.seek(start)
            try:
                data = memory.read(end - start)
            except OSError:
                continue
            found.update(secret for secret in secrets if secret.encode() in data)
    return sorted(found)
