"""The imports of the repository's files."""

import ast
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from testing.repository import ROOT

PACKAGES = ("daemon", "connectors", "neva")


@cache
def imports_of(path: Path) -> Sequence[tuple[str, bool]]:
    """Return each imported module's name and whether the import stands inside a function."""
    return tuple(_imports_of(path))


def _imports_of(path: Path) -> Iterator[tuple[str, bool]]:
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
