"""The sandboxed process loads decoding and nothing else of ours: seen in a fresh process, and in its code."""

import subprocess
import sys

import pytest

from testing.repository import ROOT
from tests.unit.test_import_rules import files, imports_of

# all of ours that may be in the process which opens untrusted media, packages apart
MAY_LOAD = {"daemon", "daemon.windows", "connectors", "connectors.errors"}
NEVER = (
    "asyncio",
    "pydantic",
    "yaml",
    "torch",
    "vllm",
    "transformers",
    "kafka",
    "httpx",
    "prometheus_client",
    "decord",  # a clip that asks for it is the first to load it
)


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The names of all modules in a process that has imported the worker."""
    program = "import sys, daemon.decoding.child.worker; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def is_of_ours(name: str) -> bool:
    return name.split(".")[0] in ("daemon", "connectors", "neva")


def may_be_loaded(name: str) -> bool:
    return name in MAY_LOAD or f"{name}.".startswith("daemon.decoding.")


def test_of_ours_only_the_decoding_is_loaded(loaded: set[str]) -> None:
    assert "daemon.decoding.child.worker" in loaded
    assert {name for name in loaded if is_of_ours(name) and not may_be_loaded(name)} == set()


@pytest.mark.parametrize("package", NEVER)
def test_what_decoding_does_not_need_is_not_loaded(loaded: set[str], package: str) -> None:
    assert package not in loaded


def test_no_function_of_the_child_imports_more() -> None:
    wrong = [
        (path.name, name)
        for path in files("daemon/decoding/child")
        for name, _ in imports_of(path)
        if (is_of_ours(name) and not may_be_loaded(name)) or name.split(".")[0] in set(NEVER) - {"decord"}
    ]

    assert wrong == []
