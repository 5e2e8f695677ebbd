"""Run the probes and print what held: ``make probe``. Exits with 1 where anything was open."""

import sys
import tempfile
from pathlib import Path

from tests.probe.recorder_under_test import ProbedRecorder
from tests.probe.worker_under_test import ProbedDaemon


def main() -> int:
    """Print a line a probe; 0 when all were held."""
    with tempfile.TemporaryDirectory(prefix="captiond-probe-") as folder:
        Path(folder).chmod(0o755)
        findings, log = ProbedDaemon(Path(folder) / "probe").run()
        of_recorder, log_of_recorder = ProbedRecorder(Path(folder) / "recorder").run()
    findings += of_recorder
    for finding in findings:
        print(f"{'held' if finding.held else 'OPEN'}  {finding.name}")
    held = sum(finding.held for finding in findings)
    print(f"{len(findings)} probes, {held} held.")
    if held < len(findings):
        print(log, log_of_recorder, file=sys.stderr)
    return 0 if held == len(findings) else 1


if __name__ == "__main__":
    sys.exit(main())
