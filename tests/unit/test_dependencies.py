"""The lower bounds of what captiond depends on: above known faults, and kept by the environment of the tests."""

import tomllib
from importlib.metadata import PackageNotFoundError, version

import pytest
from packaging.requirements import Requirement

from testing.repository import ROOT

# the last version that has a published advisory, by package
LAST_FAULTY = {"starlette": "1.3.0", "h11": "0.14.0", "aiohttp": "3.14.3", "pillow": "12.2.0"}


def declared() -> dict[str, list[Requirement]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: dict[str, list[Requirement]] = {}
    for line in project["dependencies"]:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            found.setdefault(requirement.name, []).append(requirement)
    return found


@pytest.mark.parametrize("name", LAST_FAULTY)
def test_a_version_with_a_known_fault_is_not_admitted(name: str) -> None:
    assert not any(requirement.specifier.contains(LAST_FAULTY[name]) for requirement in declared()[name])


@pytest.mark.parametrize("name", declared())
def test_what_is_installed_satisfies_the_bounds(name: str) -> None:
    try:
        installed = version(name)
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed")

    assert all(requirement.specifier.contains(installed, prereleases=True) for requirement in declared()[name])
