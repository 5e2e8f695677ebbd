"""The lock files hold what pyproject.toml asks for, by hash, and name no place that packages come from."""

import json
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.check_sbom import missing
from testing.repository import ROOT

LOCKS = ROOT / "requirements"
MACHINES = [(python, machine) for python in ("3.11", "3.12", "3.13") for machine in ("x86_64", "aarch64")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(name: str) -> list[tuple[Requirement, list[str]]]:
    """Return each pin of a lock file with its hashes."""
    text = re.sub(r"^\s*#.*\n", "", (LOCKS / f"{name}.lock").read_text(), flags=re.MULTILINE)
    entries = [entry.replace("\\\n", " ").split("--hash=") for entry in re.split(r"\n(?=\S)", text.strip())]
    return [(Requirement(entry[0]), [one.strip() for one in entry[1:]]) for entry in entries]


def asked_for(name: str) -> list[str]:
    project = PROJECT["project"]
    if name in PROJECT["dependency-groups"]:
        return PROJECT["dependency-groups"][name]
    return [
        *project["dependencies"],
        *(one for extra in (name, "dev") for one in project["optional-dependencies"][extra]),
    ]


def on(requirement: Requirement, python: str, machine: str) -> bool:
    environment = {
        "python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine,
        "sys_platform": "linux", "platform_system": "Linux", "platform_python_implementation": "CPython",
        "implementation_name": "cpython", "os_name": "posix", "extra": "",
    }  # fmt: skip
    return requirement.marker is None or requirement.marker.evaluate(environment)


@pytest.mark.parametrize("name", ["cpu", "cuda", "supply", "fuzz", "deploy"])
@pytest.mark.parametrize(("python", "machine"), MACHINES)
def test_each_requirement_has_one_pin_that_fits(name: str, python: str, machine: str) -> None:
    locked: dict[str, list[Requirement]] = {}
    for pin, _ in pins(name):
        if on(pin, python, machine):
            locked.setdefault(canonicalize_name(pin.name), []).append(pin)
    assert all(len(one) == 1 for one in locked.values()), [one for one in locked.values() if len(one) > 1]

    for text in asked_for(name):
        wanted = Requirement(text)
        if on(wanted, python, machine):
            assert canonicalize_name(wanted.name) in locked, f"{text} is not in {name}.lock: make lock"
            (specifier,) = locked[canonicalize_name(wanted.name)][0].specifier
            assert wanted.specifier.contains(specifier.version, prereleases=True), f"{text}: make lock"


@pytest.mark.parametrize("name", ["clips", "cpu", "cuda", "supply", "fuzz", "deploy"])
def test_a_lock_file_holds_exact_versions_and_hashes_alone(name: str) -> None:
    for pin, hashes in pins(name):
        assert pin.url is None, pin
        assert [specifier.operator for specifier in pin.specifier] == ["=="], pin
        assert hashes, pin
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), pin


def test_the_project_is_built_by_a_locked_tool() -> None:
    (build,) = PROJECT["build-system"]["requires"]

    for name in ("cpu", "cuda"):
        found = [pin for pin, _ in pins(name) if pin.name == Requirement(build).name]
        assert found
        assert all(Requirement(build).specifier.contains(str(pin.specifier)[2:]) for pin in found)


def test_a_package_or_hash_that_a_bill_of_materials_lacks_is_named() -> None:
    lock = (
        "one==1.0 \\\n    --hash=sha256:aa\ntwo[extra]==2.0 ; python_version > '3'\\\n    --hash=sha256:bb\nthree==3\n"
    )
    with_hash = {"externalReferences": [{"hashes": [{"alg": "SHA-256", "content": "aa"}]}]}
    parts = [{"name": "one", "version": "1.0", **with_hash}, {"name": "three", "version": "3"}]

    assert missing(lock, json.dumps({"components": parts})) == ["two==2.0", "three==3"]
