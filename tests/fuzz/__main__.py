"""Fuzz the targets with Atheris, each for its share of the time, and keep the inputs that reach what no other does.

``python -m tests.fuzz [TARGET ...] --minutes 60``. An input that makes a target raise is written to
``build/fuzz/TARGET/`` and ends the run with 1.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from testing.repository import ROOT
from tests.fuzz.seeds import SEEDS

CORPUS = Path(__file__).parent / "corpus"
MAX_BYTES = 4096  # of an input


def main() -> int:
    """Fuzz, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz what strangers write.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(SEEDS)}; all by default")
    parser.add_argument("--minutes", type=float, default=60.0, help="of all targets together")
    given = parser.parse_args()
    targets = given.targets or list(SEEDS)
    if unknown := set(targets) - set(SEEDS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    codes = [_fuzz(target, given.minutes * 60 / len(targets)) for target in targets]
    return int(any(codes))


def _fuzz(target: str, seconds: float) -> int:
    """Fuzz one target in a process of its own, which adds to the corpus what reaches more, and makes it smaller."""
    findings, kept = ROOT / "build" / "fuzz" / target, CORPUS / target
    findings.mkdir(parents=True, exist_ok=True)
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as seeds:
        for number, seed in enumerate(SEEDS[target]()):
            Path(seeds, f"{number:03}").write_bytes(seed)
        limits = (f"-max_len={MAX_BYTES}", f"-max_total_time={int(seconds)}", "-timeout=120", "-rss_limit_mb=4096")
        options = (*limits, f"-artifact_prefix={findings}/", "-print_final_stats=1")
        command = [sys.executable, "-m", "tests.fuzz.one", target, *options, str(kept), seeds]
        return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
