"""The unit files: judged by systemd's own tools, held against each other and against the guide. Nothing is started."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from daemon.config.chosen import Machine, choose_clips
from testing.repository import ROOT
from tests.chaos.unit_rows import ANALYZE, UNITS, analyze, findings, open_doors, stage

pytestmark = pytest.mark.systemd

_ROW = re.compile(r"^\| `([^`]+)`( \(GPU\))? \| ([0-9.]+) \|", re.MULTILINE)


@pytest.fixture(autouse=True)
def _tool() -> None:
    if not Path(ANALYZE).exists():
        message = f"there is no {ANALYZE}"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)


def test_verify_has_nothing_to_say_and_the_exposure_is_low(tmp_path: Path) -> None:
    assert findings(tmp_path / "units") == []


@pytest.mark.parametrize("gpu", [False, True])
def test_the_guide_says_what_is_left_open_and_how_much_that_is(gpu: bool, tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "operate.md").read_text()
    told = {name.replace("\\|", "|"): float(adds) for name, of_gpu, adds in _ROW.findall(guide) if gpu or not of_gpu}

    unit = stage(tmp_path / "units", gpu=gpu)[0]

    assert told == open_doors(unit)
    _, said = analyze("security", "--offline=true", str(unit))
    (exposure,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert f"gives {exposure} without" in guide if not gpu else f"and {exposure} with the GPU drop-in" in guide


def test_the_template_is_the_unit_with_an_instance() -> None:
    one, many = ((ROOT / "systemd" / name).read_text() for name in UNITS)

    def settings(text: str) -> list[str]:
        return [line for line in text.splitlines() if line and not line.startswith(("#", "Description="))]

    instance = (line.replace("-%i", "").replace("/%i.yaml", "/captiond.yaml") for line in settings(many))
    assert list(instance) == settings(one)


def values(unit: str, key: str) -> list[str]:
    """Return the values that a unit file gives a key, in order."""
    text = (ROOT / "systemd" / unit).read_text()
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("unit", UNITS)
def test_one_batch_of_engine_killers_does_not_use_up_the_starts(unit: str) -> None:
    batch = choose_clips(Machine(cores=2, memory_bytes=2**33))  # where a small model starts fastest
    shared_death, first_start = 1, 1

    (burst,) = values(unit, "StartLimitBurst")

    assert int(burst) > first_start + shared_death + batch
    assert "After seventy failed starts" in (ROOT / "docs" / "operate.md").read_text()
    assert burst == "70"


@pytest.mark.parametrize("unit", UNITS)
def test_a_service_that_fails_at_once_stays_failed(unit: str) -> None:
    (burst,), (interval_s,) = values(unit, "StartLimitBurst"), values(unit, "StartLimitIntervalSec")
    (pause_s,) = values(unit, "RestartSec")

    assert int(burst) * (int(pause_s) + 2) < int(interval_s)  # a start that fails at once takes some two seconds


@pytest.mark.parametrize("unit", UNITS)
def test_decoders_may_put_themselves_into_their_cage(unit: str) -> None:
    allowed = [name for value in values(unit, "SystemCallFilter") for name in value.split() if value[0] != "~"]

    needed = {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp"}
    assert needed <= set(allowed)


PER_INSTANCE = ("User", "Group", "StateDirectory", "CacheDirectory", "RuntimeDirectory", "LoadCredential")


@pytest.mark.parametrize("key", PER_INSTANCE)
def test_instances_share_no_user_no_secret_and_no_folder(key: str) -> None:
    assert all("-%i" in value for value in values("captiond@.service", key))


def test_an_instance_shares_no_path_of_the_first() -> None:
    text = (ROOT / "systemd" / "captiond@.service").read_text()
    settings = "\n".join(
        line for line in text.splitlines() if not line.startswith(("#", "Documentation=", "Environment"))
    )
    environment = "\n".join(values("captiond@.service", "Environment"))

    assert re.findall(r"/(?:var/lib|var/cache|run)/captiond(?!-%i)", settings + environment) == []


def install(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    given = {**os.environ, "DESTDIR": str(folder)}
    script = ROOT / "scripts" / "install"
    return subprocess.run([script, *arguments], env=given, capture_output=True, text=True, check=False, timeout=60)


def test_an_instance_gets_the_user_and_the_place_for_secrets_that_its_unit_names(tmp_path: Path) -> None:
    done = install(tmp_path, "instance", "doors")

    assert done.returncode == 0, done.stderr
    (user,), (secrets,) = values("captiond@.service", "User"), values("captiond@.service", "LoadCredential")
    made = (tmp_path / "etc/sysusers.d/captiond-doors.conf").read_text()
    assert made.startswith(f"u {user.replace('%i', 'doors')} - ")
    folder = tmp_path / secrets.partition(":")[2].replace("%i", "doors").lstrip("/")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert "systemctl enable --now captiond@doors" in done.stdout


@pytest.mark.parametrize("name", ["", "Doors", "../etc", "-x", "a b", "a" * 23, 'a"'])
def test_a_name_that_no_user_can_have_is_refused(name: str, tmp_path: Path) -> None:
    done = install(tmp_path, "instance", name)

    assert done.returncode == 64
    assert list(tmp_path.iterdir()) == []
