"""`make install`, again to upgrade, and `make uninstall`, on a machine of its own that nothing comes back from.

The environment that is installed is small: it finds its packages where the tests have theirs. What `make install` does
with a whole one is what every other test of this folder runs on.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from testing.repository import ROOT
from tests.systemd.machine import Machine

pytestmark = [pytest.mark.systemd, pytest.mark.slow, pytest.mark.timeout(300)]

UNITS = "/usr/local/lib/systemd/system"
INSTALLED = (
    "/opt/captiond/bin/captiond",
    "/opt/captiond/share/doc/captiond/operate.md",
    "/usr/local/bin/captiond",
    f"{UNITS}/captiond.service",
    f"{UNITS}/captiond@.service",
    f"{UNITS}/captiond-record.service",
    f"{UNITS}/captiond-record@.service",
    "/usr/local/lib/sysusers.d/captiond.conf",
    "/usr/local/lib/tmpfiles.d/captiond.conf",
)
KEPT = ("/etc/captiond/captiond.yaml", "/etc/captiond/credentials/kafka", "/var/lib/captiond/inbox/clip.mp4")


@pytest.fixture(scope="module")
def sources(bare_machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a small environment, to which .venv is a link; its path is the machine's."""
    folder, inside = tmp_path_factory.mktemp("checkout") / "sources", Path("/srv/sources")
    listed = subprocess.run(["/usr/bin/git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    python = ROOT / ".venv" / "bin" / "python"
    subprocess.run([python, "-m", "venv", "--without-pip", folder / "environment"], check=True)
    (folder / ".venv").symlink_to("environment")
    (own,) = (folder / ".venv" / "lib").glob("python*/site-packages")
    (own / "packages.pth").write_text(f"/srv/environment/lib/{own.parent.name}/site-packages\n")
    (folder / ".venv" / "bin" / "captiond").write_text("#!/bin/sh\n")
    (folder / ".venv" / "bin" / "captiond").chmod(0o755)
    shutil.copytree(folder, bare_machine.path(str(inside)), symlinks=True)
    return inside


def make(machine: Machine, sources: Path, *arguments: str) -> str:
    """Run make; the environment is there, so its set-up is left out."""
    return machine.run(
        "make", "--no-print-directory", "--old-file=setup", "-C", str(sources), *arguments, timeout_s=200
    )


def there(machine: Machine, *paths: str) -> list[bool]:
    """Whether each path is there; a link may point to what only the machine has."""
    return [os.path.lexists(machine.path(path)) for path in paths]


def version(machine: Machine) -> str:
    return machine.run("/usr/local/bin/captiond", "version")


def test_from_nothing_to_an_upgrade_to_nothing(bare_machine: Machine, sources: Path) -> None:
    machine = bare_machine
    assert not any(there(machine, *INSTALLED))

    said = make(machine, sources, "install")

    assert all(there(machine, *INSTALLED))
    assert machine.path(f"{sources}/environment/bin/captiond").read_text() == "#!/bin/sh\n"  # as it was
    assert "Name a model in /etc/captiond/captiond.yaml" in said
    assert machine.run("id", "--name", "--user", "captiond").strip() == "captiond"
    modes = machine.run("stat", "--format=%a %U", "/var/lib/captiond/inbox", "/etc/captiond/credentials").splitlines()
    assert modes == ["2770 captiond", "700 root"]
    assert machine.show("captiond.service", "LoadState")["LoadState"] == "loaded"
    machine.run("systemctl", "start", "captiond", check=False)
    assert machine.show("captiond.service", "Result", "ExecMainStatus")["ExecMainStatus"] == "78"

    machine.path(KEPT[0]).write_text(
        "sources: {inbox: {kind: folder, path: /var/lib/captiond/inbox}}\n"
        "sink: {kind: folder, path: /var/lib/captiond/captions}\nengine: {kind: fake}\n"
    )
    machine.path(KEPT[1]).write_text("hush\n")
    machine.path(KEPT[2] + ".part").write_bytes(b"not whole yet")
    machine.run("systemctl", "reset-failed", "captiond")
    machine.run("systemctl", "start", "captiond")
    before = machine.path(KEPT[0]).read_text()
    machine.path(f"{sources}/daemon/__init__.py").write_text('"""A later one."""\n\n__version__ = "99.0"\n')

    said = make(machine, sources, "install")

    assert "keeping /etc/captiond/captiond.yaml" in said
    assert machine.path(KEPT[0]).read_text() == before
    assert "99.0" in version(machine)
    assert machine.show("captiond.service", "ActiveState")["ActiveState"] == "active"  # until it is restarted
    machine.run("systemctl", "restart", "captiond")
    assert machine.show("captiond.service", "ActiveState")["ActiveState"] == "active"
    assert not any(there(machine, "/opt/captiond.old", "/opt/captiond.new"))

    said = make(machine, sources, "uninstall")

    assert not any(there(machine, *INSTALLED, "/opt/captiond"))
    assert machine.show("captiond.service", "ActiveState", "LoadState") == {
        "ActiveState": "inactive",
        "LoadState": "not-found",
    }
    assert all(there(machine, KEPT[0], KEPT[1], KEPT[2] + ".part"))
    assert "/etc/captiond, /var/lib/captiond" in said


def test_into_a_folder_under_another_prefix(bare_machine: Machine, sources: Path) -> None:
    machine = bare_machine

    make(machine, sources, "install", "DESTDIR=/srv/package", "PREFIX=/usr/lib/captiond", "GPU=yes")

    unit = machine.path(f"/srv/package{UNITS}/captiond.service").read_text()
    assert "ExecStart=/usr/lib/captiond/bin/captiond run" in unit
    assert "/opt/captiond" not in unit
    script = machine.path("/srv/package/usr/lib/captiond/bin/captiond").read_text().splitlines()[0]
    assert script == "#!/usr/lib/captiond/bin/python"
    assert all(there(machine, f"/srv/package{UNITS}/captiond.service.d/gpu.conf", "/srv/package" + KEPT[0]))
    assert not any(there(machine, "/usr/lib/captiond", f"{UNITS}/captiond.service"))

    make(machine, sources, "uninstall", "DESTDIR=/srv/package", "PREFIX=/usr/lib/captiond")

    left = machine.run("find", "/srv/package", "-type", "f").split()
    assert left == ["/srv/package" + KEPT[0]]
