"""Memory that is given back: collections are rare and leave out what the start made, and large pieces go at once."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import gc
from daemon.service import memory
kept = [[] for _ in range(1000)]
before = gc.get_threshold()[0]
memory.look_seldom()
memory.settle()
class Cycle: pass
one = Cycle(); one.itself = one
import weakref
seen = weakref.ref(one); del one
gc.collect()
print(gc.get_freeze_count() >= len(kept), gc.get_threshold()[0] > before, seen() is None)
memory.unsettle()
print(gc.get_freeze_count() == 0)
memory.leave_to_the_system()
print(gc.get_freeze_count() >= len(kept))
"""


def test_what_the_start_made_is_left_out_and_later_garbage_is_not() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)

    assert ran.stdout.split() == ["True"] * 5


HOLES = """
import sys
from pathlib import Path
from daemon.service import memory

def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "settled":
    memory.settle()
before = resident_bytes()
largest = bytearray(24 * 2**20)
del largest
values = [(bytearray(8 * 2**20), bytearray(300_000)) for _ in range(12)]
kept = [small for _, small in values]
del values
print(resident_bytes() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps large pieces")
def test_values_of_clips_leave_no_holes_between_smaller_pieces() -> None:
    grown = {
        state: int(
            subprocess.run([sys.executable, "-c", HOLES, state], capture_output=True, text=True, check=True).stdout
        )
        for state in ("begun", "settled")
    }

    assert grown["settled"] < 16 * 2**20 < grown["begun"]
