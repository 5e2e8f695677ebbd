"""An hour costs no more memory than a minute, and its first window comes before a tenth of it is decoded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from testing.repository import ROOT
from tests.corpus.clips import Recipe, make, repeat

PROBE = """
import asyncio, json, sys
from contextlib import aclosing
from pathlib import Path
from daemon.windows import FramePolicy, WindowPolicy
from tests.corpus.sampling import clip_of, make_sampler

def peak(pid):
    return next(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith("VmHWM"))

def ticks(pid):
    return sum(int(field) for field in open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[11:13])

async def main():
    sampler = make_sampler()
    await sampler.start()
    plan = await sampler.plan(clip_of(Path(sys.argv[1])), WindowPolicy(), FramePolicy())
    windows, at_first, (pid,) = 0, 0, sampler.pool.pids
    planned = ticks(pid)
    async with aclosing(sampler.frame_sets(plan)) as sets:
        async for window in sets:
            at_first = at_first or ticks(pid) - planned
            windows += 1
            sampler.release(window)
    whole = ticks(pid) - planned
    print(json.dumps({"windows": windows, "peak_kib": peak("self") + peak(pid), "first": at_first, "whole": whole}))
    plan.close()
    await sampler.close()

asyncio.run(main())
"""


def measured(path: Path) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(path)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    result: dict[str, int] = json.loads(done.stdout)
    return result


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_hour_takes_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    options = {"g": "50", "preset": "ultrafast", "crf": "35"}
    minute = make(tmp_path / "minute", Recipe(ticks=tuple(range(600)), clock=10, size=(128, 72), options=options))
    hour = repeat(tmp_path / "hour", minute, 60)

    of_a_minute, of_an_hour = measured(minute.path), measured(hour)

    assert (of_a_minute["windows"], of_an_hour["windows"]) == (6, 360)
    assert of_an_hour["peak_kib"] <= 1.2 * of_a_minute["peak_kib"]
    assert of_an_hour["first"] <= of_an_hour["whole"] / 10
    print(json.dumps({"minute": of_a_minute, "hour": of_an_hour}))
