"""One machine for all tests of this folder; a skip where there can be none, a failure where CI says there must."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.repository import ROOT
from tests.systemd.machine import Machine, why_not
from tests.systemd.service import Service

# beside .venv, so that the environment is linked and not copied
TREE = ROOT / "build" / "systemd-tree"


@pytest.fixture(scope="session")
def may_run() -> None:
    """Skip, or fail in CI, where no systemd can be started."""
    if (reason := why_not()) is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs a systemd to test under: {reason}")
        pytest.skip(f"no systemd can be started here: {reason}")


@pytest.fixture(scope="session")
def machine(may_run: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which the service is installed, with the environment that the tests run in."""
    given = {**os.environ, "DESTDIR": str(TREE), "PREFIX": "", "COPY": "cp -al", "GPU": "no"}
    subprocess.run([ROOT / "scripts" / "install"], env=given, check=True, stdout=subprocess.DEVNULL)
    under_test = Machine(TREE, tmp_path_factory.mktemp("machine"), name=f"captiond-{os.getpid()}")
    try:
        under_test.start()
        under_test.run("systemd-sysusers", "captiond.conf")
        under_test.run("systemd-tmpfiles", "--create", "captiond.conf")
        yield under_test
    finally:
        under_test.stop()


@pytest.fixture(scope="module")
def bare_machine(may_run: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which nothing of ours is."""
    under_test = Machine(None, tmp_path_factory.mktemp("bare"), name=f"captiond-bare-{os.getpid()}")
    try:
        under_test.start()
        yield under_test
    finally:
        under_test.stop()


@pytest.fixture
def service(machine: Machine, tmp_path: Path) -> Iterator[Service]:
    """A service with the fake engine that has not been started, its folders empty."""
    fresh = Service(machine, tmp_path)
    fresh.clear()
    fresh.configure()
    yield fresh
    machine.run("systemctl", "stop", fresh.unit, check=False)
    machine.run("systemctl", "reset-failed", fresh.unit, check=False)
