"""A recorder that was taken over, in a running daemon: it reaches the network and its own folder, and nothing else."""

import tempfile
from pathlib import Path

import pytest

from tests.probe.recorder_under_test import ProbedRecorder

pytestmark = pytest.mark.timeout(300)


def test_a_recorder_that_was_taken_over_reaches_nothing_but_the_network_and_its_folder() -> None:
    with tempfile.TemporaryDirectory(prefix="captiond-probe-") as folder:  # another user must reach it
        Path(folder).chmod(0o755)
        findings, log = ProbedRecorder(Path(folder) / "probe").run()

    assert [one.name for one in findings if not one.held] == [], log
    assert len(findings) > 80
