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
# outside, and terminal is the person at it
DAEMON_KNOWS = {
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
    "daemon": {"frame_look", "memory_file", "seccomp", "windows"},
    "connectors": {"contract", "errors", "section", "source_route", "validation"},
}
COMPOSED = {"commands": {"build"}}  # one-shot commands put the program together as the daemon does


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
