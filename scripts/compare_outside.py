"""Compare two checkouts from outside: what a user sees must be the same, byte for byte.

    python scripts/compare_outside.py BEFORE [AFTER]

BEFORE and AFTER (this checkout if left out) are folders; both run with the Python that runs this script. Compared are
the JSON Schemas, the help of every command, `check` of three configurations, the exit codes and messages of ten bad
ones, the metrics and pages of a running daemon, the demo's captions, and NeVA's answers to a prompt file. What differs
by nature (times, clip ids made of modification times, ports) is left out by name. Exits with 1 where anything differs.
"""

import difflib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

COMMANDS = (
    *("run", "check", "caption", "plan", "sample", "bench", "schema", "status", "replay", "version"),
    *("evaluate", "import-nemo", "pretrain", "finetune"),
)
DEADLINE_S = 300.0
FOLDERS = "sources: {inbox: {kind: folder, path: inbox}}\nsink: {kind: folder, path: captions}\n"
CHECKED = {
    "every default": FOLDERS + "engine: {model: bundled}\n",
    "folder and tar, own prompts, remote engine": (
        "sources:\n  inbox: {kind: folder, path: inbox, prompt: {text: 'Door?'}, windows: {window_s: 4, stride_s: 2}}\n"
        "  films: {kind: tar, path: films.tar, frames: {num_frames: 4}}\n"
        "sink: {kind: folder, path: captions}\n"
        "engine: {kind: openai, model: m, base_urls: ['http://user:secret@127.0.0.1:9/v1']}\n"
    ),
    "fake engine, other limits": FOLDERS
    + "engine: {kind: fake}\nlimits: {in_flight_bytes: 64MiB, max_clips_in_flight: 3}\nhttp: null\n",
}
BAD = {
    "unknown key": FOLDERS + "engin: {}\n",
    "wrong type": FOLDERS + "windows: {window_s: long}\n",
    "no source": "sources: {}\nsink: {kind: folder, path: captions}\n",
    "unknown kind": "sources: {a: {kind: ftp}}\nsink: {kind: folder, path: captions}\n",
    "not YAML": "sources: [\n",
    "key twice": FOLDERS + "delivery: at_least_once\ndelivery: at_least_once\n",
    "transactions without Kafka": FOLDERS + "delivery: transactional\n",
    "no such environment": FOLDERS + "state_dir: ${CAPTIOND_NOT_THERE}\n",
    "two settings contradict": FOLDERS + "windows: {policy: whole, window_s: 3}\n",
    "no such model": FOLDERS + "engine: {model: /nowhere/model}\n",
    "no broker": (
        "sources: {a: {kind: kafka, bootstrap_servers: '127.0.0.1:9', topics: [clips]}}\n"
        "sink: {kind: folder, path: captions}\nengine: {kind: fake}\n"
    ),
    "a password in clear": (
        "sources: {a: {kind: kafka, bootstrap_servers: '127.0.0.1:9', topics: [clips], sasl_mechanism: PLAIN}}\n"
        "sink: {kind: folder, path: captions}\n"
    ),
}


class Checkout:
    """One checkout, seen through its command line alone."""

    def __init__(self, root: Path, work: Path) -> None:
        self.root, self.work = root, work
        kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ}
        self.environment |= {"COLUMNS": "100", "PYTHONHASHSEED": "0", "TERM": "dumb"}

    def captiond(self, *arguments: str) -> str:
        """Return the exit code and all that a command prints."""
        command = [sys.executable, "-m", "daemon", *arguments]
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        return f"exit {done.returncode}\n{done.stdout}\n--\n{done.stderr}"

    def file(self, name: str, text: str) -> Path:
        """Write a file at the same path for both checkouts."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


def schemas(checkout: Checkout) -> Iterator[tuple[str, str]]:
    """Yield what `schema` prints."""
    yield "captiond schema", checkout.captiond("schema")


def helps(checkout: Checkout) -> Iterator[tuple[str, str]]:
    """Yield the help of the program and of each command."""
    yield "captiond --help", checkout.captiond("--help")
    for command in COMMANDS:
        yield f"captiond {command} --help", checkout.captiond(command, "--help")


def checks(checkout: Checkout) -> Iterator[tuple[str, str]]:
    """Yield what `check` says of three good configurations and of the bad ones, exit codes included."""
    for name, text in CHECKED.items():
        yield f"check: {name}", checkout.captiond("check", "-c", str(checkout.file("captiond.yaml", text)))
    for name, text in BAD.items():
        yield f"refused: {name}", checkout.captiond("check", "-c", str(checkout.file("captiond.yaml", text)))


def metrics(checkout: Checkout) -> Iterator[tuple[str, str]]:
    """Yield the metrics, the pages and the status of a running daemon: names, labels and keys, not the figures."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{probe.getsockname()[1]}"
    text = FOLDERS + f"engine: {{kind: fake}}\nhttp: {{listen: '{at}'}}\n"
    config = checkout.file("running/captiond.yaml", text)
    (config.parent / "inbox").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "daemon", "run", "-c", str(config)]
    daemon = subprocess.Popen(command, cwd=checkout.root, env=checkout.environment, stderr=subprocess.DEVNULL)
    try:
        page = _when_ready(f"http://{at}")
        scraped = [line for line in page("/metrics").splitlines() if not line.startswith("python_")]
        yield "/metrics", "\n".join(re.sub(r" [0-9.e+-]+$", "", line) for line in scraped)
        yield "/status.json", "\n".join(sorted(_keys(json.loads(page("/status.json")))))
        yield "/", re.sub(r"\d[\d.]*", "0", page("/"))
    finally:
        daemon.send_signal(signal.SIGTERM)
        yield "exit code after SIGTERM", str(daemon.wait(60))


def _when_ready(base: str) -> Callable[[str], str]:
    def page(path: str) -> str:
        with urllib.request.urlopen(base + path, timeout=10) as answer:  # noqa: S310 - loopback, written above
            return str(answer.read().decode())

    begun_s = time.monotonic()
    while time.monotonic() - begun_s < DEADLINE_S:
        try:
            page("/readyz")
            return page
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"{base} is not ready")


def _keys(value: object, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _keys(inner, f"{path}.{key}")
    else:
        yield f"{path}: {type(value).__name__}"


def demo(checkout: Checkout) -> Iterator[tuple[str, str]]:
    """Yield the demo's captions: every key of every message but ids and times."""
    done = subprocess.run(
        [sys.executable, "scripts/demo.py"], cwd=checkout.root, env=checkout.environment | {"PYTHONPATH": "."},
        capture_output=True, text=True, timeout=2 * DEADLINE_S, check=False,
    )  # fmt: skip
    yield "demo: exit code", str(done.returncode) + (done.stderr if done.returncode else "")
    captions = checkout.root / "build" / "demo" / "captions"
    for file in sorted(captions.rglob("*.*")):
        text = file.read_text()
        if file.suffix == ".jsonl":
            text = "\n".join(json.dumps(_without(json.loads(line)), sort_keys=True) for line in text.splitlines())
        yield f"demo: {file.relative_to(captions)}", text


def _without(message: dict[str, object]) -> dict[str, object]:
    own = {"caption_id", "clip_id", "timing_ms", "created_at", "time", "created_ns"}  # of this run alone
    return {key: value for key, value in message.items() if key not in own}


def answers(checkout: Checkout) -> Iterator[tuple[str, str]]:
    """Yield NeVA's answers for the demo's clips, as printed and as written, with log-probabilities."""
    clips = checkout.root / "build" / "demo" / "inbox" / "done" / "shapes"
    media = checkout.work / "media"
    if not media.is_dir():  # both are asked about the same files
        shutil.copytree(clips, media)
    asked = [
        {"video": clip.name, "text": question}
        for clip in sorted(media.glob("*.mp4"))
        for question in ("<video> What is shown?", "<video> Describe this video.")
    ]
    prompts = checkout.file("prompts.jsonl", "".join(json.dumps(record) + "\n" for record in asked))
    output = checkout.work / "answers.jsonl"
    output.unlink(missing_ok=True)
    told = checkout.captiond(
        *("evaluate", "neva_model_file=bundled", f"prompt_file={prompts}", f"output_file={output}"),
        *(
            f"inference.media_base_path={media}",
            "inference.media_type=video",
            "tensor_model_parallel_size=1",
            "trainer.devices=1",
        ),
        *("inference.greedy=True", "inference.compute_logprob=True"),
    )
    yield "evaluate: standard output", told.split("\n--\n")[0]
    yield "evaluate: answers", output.read_text()


def main() -> int:
    """Compare; 0 when everything is the same."""
    before = Path(sys.argv[1]).resolve()
    after = Path(sys.argv[2] if len(sys.argv) > 2 else Path(__file__).parents[1]).resolve()
    seen: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for root in (before, after):
            checkout = Checkout(root, Path(folder))
            seen.append({
                name: text.replace(str(root), "ROOT")
                for part in (schemas, helps, checks, metrics, demo, answers)
                for name, text in part(checkout)
            })  # fmt: skip
    differing = 0
    for name in dict.fromkeys([*seen[0], *seen[1]]):
        old, new = (one.get(name, "(not there)") for one in seen)
        print(f"{'same     ' if old == new else 'DIFFERENT'} {name} ({len(old.encode())} bytes)")
        if old != new:
            differing += 1
            print("\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), "before", "after", lineterm="")))
    print(f"{len(seen[0])} things compared, {differing} different.")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
