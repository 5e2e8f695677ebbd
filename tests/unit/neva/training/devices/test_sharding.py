"""Sharding on CPUs: what is freed goes back to the system, so that gathered layers leave no holes."""

import subprocess
import sys

import pytest

pytest.importorskip("torch")

from testing.repository import ROOT

pytestmark = pytest.mark.timeout(600)

# In a process of its own, for a heap that has room already takes nothing from the system.
PROBE = """
import ctypes, sys, torch
from neva.training.devices.sharding import shard
from tests.unit.neva.training.devices.pretended import pretended

library, fields = ctypes.CDLL(None), "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
if not hasattr(library, "mallinfo2"):
    sys.exit("no mallinfo2")

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in fields.split()]

library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes, library.mallinfo2.restype = [ctypes.c_void_p], Info
with pretended(2) as accelerator:
    shard(torch.nn.Linear(2, 2), accelerator, bf16=False)
library.free(library.malloc(31 << 20))  # by itself glibc would now keep what is smaller
before = library.mallinfo2().hblkhd
library.malloc(30 << 20)
print(library.mallinfo2().hblkhd - before)
"""


@pytest.mark.slow
def test_large_memory_comes_from_the_system_after_larger_memory_was_freed() -> None:
    done = subprocess.run([sys.executable, "-Wignore", "-c", PROBE], capture_output=True, text=True, cwd=ROOT)
    if "no mallinfo2" in done.stderr:
        pytest.skip("mallinfo2 is glibc's, from 2.33 on")

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 30 << 20
