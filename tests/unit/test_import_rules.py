"""The import rules: which package may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import daemon
from testing.repository import ROOT
from tests.unit.imports import PACKAGES, files, imports_of

# what each package of neva may import of neva, itself included; "neva.*" is every module directly in neva but the two
# entries that stand above all packages: the training of both kinds, and the commands
NEVA_KNOWS = {
    "neva.*": {"neva.*"},
    "neva.checkpoints": {"neva.*", "neva.checkpoints"},
    "neva.training": {"neva.*", "neva.checkpoints", "neva.training"},
    "neva.shapes": {"neva.*", "neva.checkpoints", "neva.training", "neva.shapes"},
    "neva.scenery": {"neva.*", "neva.checkpoints", "neva.training", "neva.shapes", "neva.scenery"},
    "neva.evaluate": {"neva.*", "neva.checkpoints", "neva.evaluate"},
    "neva.train": {"neva.*", "neva.training", "neva.shapes", "neva.scenery"},
    "neva.commands": {"neva.*", "neva.checkpoints", "neva.training", "neva.evaluate", "neva.train"},
}


# what the daemon may import of the connectors; webvtt and schema are formats, safe_text and url_secrets show text from
# outside, terminal is the person at it, and cage is what decoders and recorders give up alike
DAEMON_KNOWS = {
    "connectors.cage",
    "connectors.contract",
    "connectors.errors",
    "connectors.media.protocols",
    "connectors.routes",
    "connectors.section",
    "connectors.settings",
    "connectors.terminal",
    "connectors.validation",
    "connectors.messages.safe_text",
    "connectors.weak_settings",
    "connectors.messages.webvtt",
    "connectors.messages.codec",
    "connectors.messages.schema",
    "connectors.messages.url_secrets",
    "connectors.messages.wall_time",
}


# what is ours that each folder beside the product may import, itself included
OURS = {*PACKAGES, "testing", "tests", "bench", "scripts"}
MAY_IMPORT = {
    **{package: {*PACKAGES} for package in PACKAGES},
    "testing": {*PACKAGES, "testing"},
    "bench": {*PACKAGES, "testing", "bench"},
    "scripts": {*PACKAGES, "testing"},
}


# only these files, or the files of these folders, import each of these; None: one file, whichever
FEW_FILES = {
    "kafka": {"connectors/kafka/client"},
    "vllm": {"daemon/engines/vllm/library"},
    "av": {"daemon/decoding/child/pyav.py", "connectors/stream/child/pyav.py"},  # the decoder's, and the recorder's
    "decord": None,
}


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


def names_neva(node: ast.AST) -> bool:
    """Say whether a piece of source imports neva, by a statement or by a string."""
    if isinstance(node, ast.Import):
        return any(name.name.split(".")[0] == "neva" for name in node.names)
    if isinstance(node, ast.ImportFrom):
        return node.module is not None and node.module.split(".")[0] == "neva"
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0] if node.args else None
        is_neva = isinstance(first, ast.Constant) and first.value == "neva"
        return is_neva and called in {"import_module", "__import__", "files", "find_spec", "run_module", "get_data"}
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("neva.")


def test_the_daemon_names_no_model_family_but_in_the_command_line() -> None:
    naming = {
        path.relative_to(ROOT).as_posix()
        for path in files("daemon")
        if any(names_neva(node) for node in ast.walk(ast.parse(path.read_text())))
    }

    assert naming == {"daemon/__main__.py"}


@pytest.mark.parametrize(
    ("source", "is_named"),
    [
        ("from neva.conversations import render", True),
        ("from neva import commands", True),
        ("import neva", True),
        ("import_module('neva.conversations')", True),
        ("importlib.import_module('neva')", True),
        ("files('neva')", True),
        ("rule = 'neva'", False),
        ("FramePolicy('neva', 8)", False),
    ],
)
def test_a_name_of_the_model_family_is_seen(source: str, is_named: bool) -> None:
    assert any(names_neva(node) for node in ast.walk(ast.parse(source))) is is_named


def neva_package(name: str) -> str:
    """Return the row of ``NEVA_KNOWS`` that a module of neva belongs to."""
    row = ".".join(name.split(".")[:2])
    return row if row in NEVA_KNOWS else "neva.*"


@pytest.mark.parametrize("package", NEVA_KNOWS)
def test_the_packages_of_neva_import_in_one_direction(package: str) -> None:
    modules = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files("neva")}
    wrong = [
        (module, name)
        for path, module in modules.items()
        if neva_package(module) == package
        for name, _ in imports_of(path)
        if name.startswith("neva.") and neva_package(name) not in NEVA_KNOWS[package]
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
        path.relative_to(ROOT)
        for folder in ("daemon", "connectors")
        for path in files(folder)
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

    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)

    assert loaded.stdout.strip() == "[]"


def test_reading_a_configuration_loads_no_connector() -> None:
    probe = "import sys, daemon.config.file; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)

    loaded = done.stdout.split()
    ours = {name for name in loaded if name.startswith("connectors.")}
    assert {name.rpartition(".")[2] for name in ours if name.count(".") == 2} == {"settings"}
    assert {name for name in ours if name.count(".") == 1} <= {
        *("connectors.errors", "connectors.section", "connectors.settings", "connectors.validation"),
        "connectors.questions",
        *("connectors.folder", "connectors.kafka", "connectors.stream", "connectors.tar"),
    }
    assert [name for name in ("kafka", "watchfiles", "fsspec", "asyncio") if name in loaded] == []
