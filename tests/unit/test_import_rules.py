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
    "connectors.terminal",
    "connectors.messages.webvtt",
    "connectors.messages.schema",
}

# only these files, or the files of these folders, import each of these; None: one file, whichever
FEW_FILES = {
    "kafka": {"connectors/kafka/client"},
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
        path.relative_to(HOUSE)
        for room in ("daemon", "connectors")
        for path in files(room)
        for name, _ in imports_of(path)
        if name.split(".")[0] == package
    }

    expected = FEW_FILES[package]
    if expected is None:
        assert len(importing) <= 1
    else:
        assert {str(path) for path in importing if {str(path), str(path.parent)}.isdisjoint(expected)} == set()


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
