"""The unit files: judged by systemd's own tools, held against each other and against the guide. Nothing is started."""

import os
import re
from pathlib import Path

import pytest

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
