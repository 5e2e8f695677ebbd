"""vLLM's source, read without importing it: that of the installed release, and that of the newest wheel.

python -m tests.contract.vllm_sources      # fetch the newest wheel into build/
"""

import ast
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from testing.repository import ROOT

_NEWEST = ROOT / "build" / "vllm-newest"


@dataclass
class Sources:
    """The modules of one release. ``root`` is a folder or a wheel that holds the package ``vllm``."""

    root: zipfile.Path | Path
    _modules: dict[str, ast.Module | None] = field(default_factory=dict)

    def module(self, name: str) -> ast.Module | None:
        """Return a module's syntax tree; None where there is no such module."""
        if name not in self._modules:
            parts = name.split(".")
            at = self.root.joinpath(*parts[:-1])
            files = (at.joinpath(f"{parts[-1]}.py"), at.joinpath(parts[-1]).joinpath("__init__.py"))
            text = next((file.read_text(encoding="utf-8") for file in files if file.is_file()), None)
            self._modules[name] = None if text is None else ast.parse(text)
        return self._modules[name]

    def names(self, module: str) -> dict[str, ast.AST]:
        """Return what a module defines or imports at its top, by name."""
        tree = self.module(module)
        return {} if tree is None else dict(_top_names(tree.body))

    def find(self, path: str) -> ast.AST | None:
        """Return the definition behind a dotted path, such as ``vllm.outputs.CompletionOutput``."""
        module, _, name = path.rpartition(".")
        found = self.names(module).get(name)
        if isinstance(found, ast.ImportFrom):  # taken from elsewhere
            origin = _origin(found, module, is_package=self._is_package(module))
            original = next((one.name for one in found.names if (one.asname or one.name) == name), name)
            if origin.startswith("vllm"):
                return self.find(f"{origin}.{original}") or self.module(f"{origin}.{original}")
        if found is None and self.module(path) is not None:
            return self.module(path)
        return found

    def attributes(self, path: str) -> set[str]:
        """Return the attributes of a class: its own, those it sets on itself, and those of its bases in vLLM."""
        found, module = self.find(path), self._home(path)
        if not isinstance(found, ast.ClassDef):
            return set()
        names = {name for name, _ in _top_names(found.body)}
        for node in ast.walk(found):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
                names.add(node.attr)
        for base in found.bases:
            base = base.value if isinstance(base, ast.Subscript) else base
            if isinstance(base, ast.Name) and base.id != found.name:
                names |= self.attributes(f"{module}.{base.id}")
        return names

    def parameters(self, path: str) -> set[str]:
        """Return the names of a function's parameters, or of a method's as ``module.Class.method``."""
        found = self.find(path)
        if found is None:
            owner, _, name = path.rpartition(".")
            holder = self.find(owner)
            found = dict(_top_names(holder.body)).get(name) if isinstance(holder, ast.ClassDef) else None
        if not isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef):
            return set()
        given = found.args
        return {one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)}

    def _home(self, path: str) -> str:
        """Return the module that defines what a path leads to."""
        module, _, name = path.rpartition(".")
        found = self.names(module).get(name)
        if isinstance(found, ast.ImportFrom):
            origin = _origin(found, module, is_package=self._is_package(module))
            original = next((one.name for one in found.names if (one.asname or one.name) == name), name)
            return self._home(f"{origin}.{original}")
        return module

    def _is_package(self, module: str) -> bool:
        return self.root.joinpath(*module.split(".")).joinpath("__init__.py").is_file()


def _origin(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    """Return the full name of the module that an import names, relative ones too."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _top_names(body: list[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    for node in body:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name, node
            case ast.ImportFrom() | ast.Import():
                yield from ((one.asname or one.name, node) for one in node.names)
            case ast.Assign():
                yield from ((target.id, node) for target in node.targets if isinstance(target, ast.Name))
            case ast.AnnAssign() if isinstance(node.target, ast.Name):
                yield node.target.id, node
            case ast.If() | ast.Try():
                yield from _top_names([*node.body, *node.orelse])


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def installed() -> Sources:
    """Return the release that is installed."""
    spec = find_spec("vllm")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Sources(Path(spec.submodule_search_locations[0]).parent)


def newest() -> Sources | None:
    """Return the newest release that was fetched; None where none was."""
    wheels = sorted(_NEWEST.glob("vllm-*.whl"), key=lambda path: path.stat().st_mtime)
    return Sources(zipfile.Path(wheels[-1])) if wheels else None


def fetch() -> int:
    """Fetch the newest wheel that the package index has: the CUDA build, which comes out first; 340 MB."""
    _NEWEST.mkdir(parents=True, exist_ok=True)
    for older in _NEWEST.glob("vllm-*.whl"):
        older.unlink()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    # no constraint holds it back: it is read, and never installed
    environment = {**os.environ, "PIP_CONSTRAINT": os.devnull}
    return subprocess.run([*command, "--dest", str(_NEWEST), "vllm"], env=environment).returncode


if __name__ == "__main__":
    sys.exit(fetch())
