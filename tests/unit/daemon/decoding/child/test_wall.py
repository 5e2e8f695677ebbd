"""The wall around the decoding child: its folder is all that runs in the sandbox, and little is behind it."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.repository import ROOT

CHILD = "daemon.decoding.child"
FOLDER = ROOT / "daemon" / "decoding" / "child"

# all of ours that the child may load beside its own folder: the errors, the frames, and what both sides share
SHARED = {
    *("connectors.cage.landlock", "connectors.cage.process", "connectors.cage.seccomp", "connectors.cage.system_calls"),
    "connectors.errors",
    "daemon.content.frames",
    "daemon.content.shots",
    "daemon.content.spans",
    "daemon.decoding.fields",
    "daemon.decoding.index_block",
    "daemon.decoding.media",
    "daemon.decoding.packet_index",
    "daemon.decoding.protocol",
    "daemon.decoding.timeline",
    "daemon.frame_look",
    "daemon.windows",
}
PACKAGES = {
    *("connectors", "connectors.cage", "daemon", "daemon.content", "daemon.decoding"),
    *(CHILD, f"{CHILD}.cage", f"{CHILD}.pictures", f"{CHILD}.stream"),
}
LIBRARIES = {"PIL", "av", "cv2", "decord", "numpy", "scenedetect"}
FORBIDDEN = ("asyncio", "pydantic", "yaml", "kafka", "torch", "vllm", "transformers", "multiprocessing")
UNUSED = {"decord", "httpx", "prometheus_client", "scenedetect"}  # until a clip asks for decord or for shots


def imports_of(path: Path) -> Iterator[str]:
    """Yield the name of every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path.name} imports relative to itself"
            yield node.module


def path_of(module: str) -> Path:
    place = ROOT.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def is_ours(module: str) -> bool:
    return module.split(".")[0] in ("connectors", "daemon", "neva")


def may_import(module: str) -> bool:
    if is_ours(module):
        return module in SHARED or module.startswith(f"{CHILD}.")
    top = module.split(".")[0]
    return (top in sys.stdlib_module_names or top in LIBRARIES) and top not in FORBIDDEN


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.stem)
def test_a_file_of_the_child_imports_little(path: Path) -> None:
    assert [module for module in imports_of(path) if not may_import(module)] == []


@pytest.mark.parametrize("module", sorted(SHARED))
def test_what_both_sides_share_imports_no_more_than_the_child(module: str) -> None:
    assert [name for name in imports_of(path_of(module)) if not may_import(name)] == []


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_package_on_the_way_loads_nothing(package: str) -> None:
    assert list(imports_of(path_of(package))) == []


def test_a_fresh_child_loads_its_folder_and_what_is_shared() -> None:
    probe = f"import json, sys, {CHILD}.fork_server; print(json.dumps(sorted(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)

    loaded = json.loads(done.stdout)
    ours = {module for module in loaded if is_ours(module)}
    assert ours - SHARED - PACKAGES == {
        ".".join((CHILD, *path.relative_to(FOLDER).with_suffix("").parts))
        for path in FOLDER.rglob("*.py")
        if path.stem not in ("__init__", "decord")
    }
    assert [module for module in loaded if module.split(".")[0] in UNUSED.union(FORBIDDEN)] == []
