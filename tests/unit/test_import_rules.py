"""The import rules: which package may import which."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import daemon
from testing.repository import ROOT

PACKAGES = ("daemon", "connectors", "neva")

# what the daemon may import of the connectors; webvtt and schema are formats, and terminal is the person at it
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

# what is ours that each folder beside the product may import, itself included
OURS = {*PACKAGES, "testing", "tests", "bench", "scripts"}
MAY_IMPORT = {
    **{package: {*PACKAGES} for package in PACKAGES},
    "testing": {*PACKAGES, "testing"},
    "bench": {*PACKAGES, "testing", "bench"},
    "scripts": {*PACKAGES, "testing"},
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
            if node.module in PACKAGES:
                for name in node.names:
                    yield f"{node.module}.{name.name}", id(node) in inside


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_the_daemon_is_ours() -> None:
    assert Path(daemon.__file__).parent == ROOT / "daemon"


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


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_each_folder_imports_only_what_it_may(folder: str) -> None:
    wrong = [
        (path.name, name)
        for path in files(folder)
        for name, _ in imports_of(path)
        if name.split(".")[0] in OURS - MAY_IMPORT[folder]
    ]

    assert wrong == []


@pytest.mark.parametrize("package", FEW_FILES)
def test_few_files_import(package: str) -> None:
    importing = {
        str(path.relative_to(ROOT))
        for folder in ("daemon", "connectors")
        for path in files(folder)
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

    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)

    assert loaded.stdout.strip() == "[]"
