"""The import rules within daemon and connectors: each package imports only those above it."""

import pytest

from testing.repository import ROOT
from tests.unit.imports import imports_of

# The packages of each room, and those of the same room that each may import: only packages further up, so there is no
# cycle. Beside them a package may import the modules that MODULES_FOR_PACKAGES names.
DIRECTIONS: dict[str, dict[str, set[str]]] = {
    "daemon": {
        "content": set(),
        "feed": set(),
        "prompts": set(),
        "config": {"content", "prompts"},
        "decoding": {"config", "content"},
        "engines": {"config", "prompts"},
        "telemetry": {"engines", "prompts"},
        "answers": {"engines", "prompts", "telemetry"},
        "service": {"config", "decoding", "engines", "telemetry"},
        "web": {"config", "feed", "service"},
        "commands": {"answers", "config", "decoding", "engines", "prompts", "service", "telemetry"},
    },
    "connectors": {
        "cage": set(),
        "files": set(),
        "media": {"files"},
        "messages": set(),
        "folder": {"files", "media", "messages"},
        "tar": {"files", "folder", "media"},
        "kafka": {"files", "media", "messages"},
        "prompt_file": {"files", "media"},
        "stream": {"cage", "files", "folder", "media", "messages"},
        "enqueue": {"folder", "kafka", "media"},
        "redo": {"files", "folder", "kafka", "messages"},
        "checks": {"folder", "kafka", "stream", "tar"},
    },
}


MODULES_FOR_PACKAGES = {
    "daemon": {"frame_look", "memory_file", "windows"},
    "connectors": {"contract", "errors", "questions", "section", "source_route", "validation"},
}


# one-shot commands put the program together as the daemon does, and checks are of a whole configuration
COMPOSED = {"commands": {"build"}, "checks": {"settings"}}


def packages_of(room: str) -> set[str]:
    return {path.parent.name for path in (ROOT / room).glob("*/__init__.py")}


def imported_within(room: str, package: str) -> set[str]:
    """Return the other packages and the modules of a room that a package's files import."""
    found = set()
    for path in (ROOT / room / package).rglob("*.py"):
        for name, _ in imports_of(path):
            parts = name.split(".")
            is_there = len(parts) > 1 and (
                (ROOT / room / parts[1]).is_dir() or (ROOT / room / f"{parts[1]}.py").is_file()
            )
            if parts[0] == room and is_there:
                found.add(parts[1])
    return found - {package}


@pytest.mark.parametrize("room", DIRECTIONS)
def test_every_package_has_its_direction(room: str) -> None:
    above = set[str]()
    for package, may in DIRECTIONS[room].items():
        assert may <= above, f"{package} may import a package that stands further down"
        above.add(package)

    assert above == packages_of(room)


@pytest.mark.parametrize(("room", "package"), [(room, package) for room in DIRECTIONS for package in DIRECTIONS[room]])
def test_a_package_imports_only_what_stands_above_it(room: str, package: str) -> None:
    may = DIRECTIONS[room][package] | MODULES_FOR_PACKAGES[room] | COMPOSED.get(package, set())

    assert imported_within(room, package) - may == set()
