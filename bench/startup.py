"""How long commands take until they have done what they are for, beside a Python that starts and ends.

    python -m bench.startup [rounds]

Each command is started afresh in each round, after one start that fills the caches of files; the rounds take turns.
``ready`` is a daemon with the fake engine until it says that it is ready, and ``plan`` one clip of three windows, whose
tokens an earlier run counted; ``plan, new`` has to ask the model's processor.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.harness.daemon import daemon
from bench.harness.report import percentile, report
from testing.load import write_load_clip

ROUNDS = 7
GOAL_S = {"--help": 0.2, "check": 0.45, "ready": 0.8, "plan --no-tokens": 1.2, "plan": 1.2, "plan, new": 5.0}


def write_config(folder: Path) -> Path:
    """Write a configuration with the fake engine over folders."""
    config = folder / "captiond.yaml"
    config.write_text(
        "sources:\n  inbox: {kind: folder, path: inbox}\nsink: {kind: folder, path: captions}\n"
        "engine: {kind: fake}\nwindows: {window_s: 2.0}\nhttp: null\n"
    )
    (folder / "inbox").mkdir()
    return config


def run(*command: str | Path, **environment: str) -> None:
    """Run a command to its end."""
    given = {**os.environ, **environment}
    subprocess.run([sys.executable, *map(str, command)], check=True, capture_output=True, env=given)


def plan_anew(clip: Path) -> None:
    """Plan with no answers of an earlier run."""
    with tempfile.TemporaryDirectory(prefix="captiond-cache-") as cache:
        run("-m", "daemon", "plan", clip, XDG_CACHE_HOME=cache)


def become_ready(config: Path) -> float:
    """Start a daemon and stop it; return how long it took to be ready."""
    begun_s = time.monotonic()
    with daemon(config):
        return time.monotonic() - begun_s


def timed(command: Callable[[], float | None]) -> float:
    """Return how long a command took, by its own word where it gives one."""
    begun_s = time.monotonic()
    said_s = command()
    return time.monotonic() - begun_s if said_s is None else said_s


def main() -> int:
    """Measure, and say whether each is within its goal."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory(prefix="captiond-startup-") as place:
        folder = Path(place)
        config, clip = write_config(folder), folder / "clip.mp4"
        write_load_clip(clip)
        commands: dict[str, Callable[[], float | None]] = {
            "python": lambda: run("-c", "pass"),
            "--help": lambda: run("-m", "daemon", "--help"),
            "check": lambda: run("-m", "daemon", "check", "-c", config),
            "ready": lambda: become_ready(config),
            "plan --no-tokens": lambda: run("-m", "daemon", "plan", "--no-tokens", clip),
            "plan": lambda: run("-m", "daemon", "plan", clip),
            "plan, new": lambda: plan_anew(clip),
        }
        took: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, command in commands.items():
                took_s = timed(command)
                if number:
                    took[name].append(took_s)
    bare_s = percentile(took.pop("python"), 0.5)
    rows: list[dict[str, float | str]] = []
    for name, times in took.items():
        median_s = percentile(times, 0.5)
        row: dict[str, float | str] = {"command": name, "s": median_s, "least_s": min(times), "most_s": max(times)}
        rows.append(row | {"goal_s": GOAL_S[name], "of_python": median_s / bare_s})
    report("startup", rows, x="command", ys=("s", "goal_s"))
    return 0 if all(float(row["s"]) <= float(row["goal_s"]) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
