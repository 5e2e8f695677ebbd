"""Garbage collections while clips are captioned: rare, and without what the start has made."""

import subprocess
import sys

PROGRAM = """
import gc
from daemon.service import collector
kept = [[] for _ in range(1000)]
before = gc.get_threshold()[0]
collector.look_seldom()
collector.settle()
class Cycle: pass
one = Cycle(); one.itself = one
import weakref
seen = weakref.ref(one); del one
gc.collect()
print(gc.get_freeze_count() >= len(kept), gc.get_threshold()[0] > before, seen() is None)
collector.unsettle()
print(gc.get_freeze_count() == 0)
collector.leave_to_the_system()
print(gc.get_freeze_count() >= len(kept))
"""


def test_what_the_start_made_is_left_out_and_later_garbage_is_not() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)

    assert ran.stdout.split() == ["True"] * 5
