"""The house's walls: who may import whom."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import daemon

HOUSE = Path(__file__).resolve().parents[2]
ROOMS = ("daemon", "connectors", "neva")

# what the daemon may know of the edges; webvtt is a format, as wire is, and terminal is the person at it
DAEMON_KNOWS = {
    "connectors.contract",
    "connectors.errors",
    "connectors.media.protocols",
    "connectors.media.reference",
    "connectors.routes",
    "connectors.section",
    "connectors.settings",
    "connectors.terminal",
    "connectors.validation",
    "connectors.messages.webvtt",
    "connectors.messages.codec",
    "connectors.messages.schema",
}

# only these files import each of these; None: one file, whichever
FEW_FILES = {
    "kafka": {"connectors/kafka/client/consumer.py", "connectors/kafka/client/workarounds.py"},
    "vllm": {"daemon/engines/vllm.py"},
    "av": None,
    "decord": None,
}


def imports_of(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield each imported module's name and whether the import stands inside a function."""
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, id(node) in inside
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module, id(node) in inside
            if node.module in ROOMS:
                for name in node.names:
                    yield f"{node.module}.{name.name}", id(node) in inside


def files(room: str) -> list[Path]:
    return sorted((HOUSE / room).rglob("*.py"))


def test_the_daemon_is_ours() -> None:
    assert Path(daemon.__file__).parent == HOUSE / "daemon"


def test_connectors_import_nothing_of_ours() -> None:
    wrong = [
        (path.name, name)
        for path in files("connectors")
        for name, _ in imports_of(path)
        if name.split(".")[0] in ("daemon", "neva")
    ]

    assert wrong == []


def test_the_daemon_names_no_transport() -> None:
    wrong = [
        (path.name, name)
        for path in files("daemon")
        for name, _ in imports_of(path)
        if name.startswith("connectors.") and name not in DAEMON_KNOWS and name.rpartition(".")[0] not in DAEMON_KNOWS
    ]

    assert wrong == []


@pytest.mark.parametrize("package", FEW_FILES)
def test_few_files_import(package: str) -> None:
    importing = {
        str(path.relative_to(HOUSE))
        for room in ("daemon", "connectors")
        for path in files(room)
        for name, _ in imports_of(path)
        if name.split(".")[0] == package
    }

    expected = FEW_FILES[package]
    if expected is None:
        assert len(importing) <= 1
    else:
        assert importing <= expected


def test_vllm_is_imported_inside_functions_alone() -> None:
    outside = [
        path.name
        for path in files("daemon")
        for name, inside in imports_of(path)
        if name.startswith("vllm") and not inside
    ]

    assert outside == []


def test_the_command_line_starts_without_a_model_library() -> None:
    heavy = ("torch", "vllm", "transformers", "av", "kafka")
    probe = f"import sys, daemon.__main__; print([name for name in {heavy} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=HOUSE)

    assert loaded.stdout.strip() == "[]"


def test_reading_a_configuration_loads_no_connector() -> None:
    probe = "import sys, daemon.config.file; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=HOUSE)

    loaded = done.stdout.split()
    ours = {name for name in loaded if name.startswith("connectors.")}
    assert {name.rpartition(".")[2] for name in ours if name.count(".") == 2} == {"settings"}
    assert {name for name in ours if name.count(".") == 1} <= {
        *("connectors.errors", "connectors.section", "connectors.settings", "connectors.validation"),
        *("connectors.folder", "connectors.kafka", "connectors.tar"),
    }
    assert [name for name in ("kafka", "watchfiles", "fsspec", "asyncio") if name in loaded] == []


# The packages of each room, and those of the same room that each may import: only packages further up, so there is no
# cycle. Beside them a package may import the modules that MODULES_FOR_PACKAGES names.
DIRECTIONS: dict[str, dict[str, set[str]]] = {
    "daemon": {
        "prompts": set(),
        "config": {"prompts"},
        "decoding": {"config"},
        "engines": {"config", "prompts"},
        "telemetry": {"engines"},
        "service": {"config", "decoding", "engines", "telemetry"},
        "web": {"service"},
        "commands": {"config", "decoding", "engines", "prompts", "service", "telemetry"},
    },
    "connectors": {
        "files": set(),
        "media": {"files"},
        "messages": set(),
        "folder": {"files", "media", "messages"},
        "tar": {"files", "folder", "media"},
        "kafka": {"files", "media", "messages"},
        "prompt_file": {"files", "media"},
    },
}
MODULES_FOR_PACKAGES = {
    "daemon": {"windows"},
    "connectors": {"contract", "errors", "section", "source_route", "validation"},
}
COMPOSED = {"commands": {"build"}}  # one-shot commands put the program together as the daemon does


def packages_of(room: str) -> set[str]:
    return {path.parent.name for path in (HOUSE / room).glob("*/__init__.py")}


def imported_within(room: str, package: str) -> set[str]:
    """Return the other packages and the modules of a room that a package's files import."""
    found = set()
    for path in (HOUSE / room / package).rglob("*.py"):
        for name, _ in imports_of(path):
            parts = name.split(".")
            is_there = len(parts) > 1 and (
                (HOUSE / room / parts[1]).is_dir() or (HOUSE / room / f"{parts[1]}.py").is_file()
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
