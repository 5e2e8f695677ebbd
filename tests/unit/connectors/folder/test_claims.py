"""Claims of a folder source: each clip is one source's at a time, and what the dead had is taken over."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import Poison
from testing.repository import ROOT
from tests.contract.folder_harness import put_file
from tests.contract.progress import PLAN, done, step, take, take_all
from tests.unit.connectors.folder.inboxes import finish_all, kept_lock_files, source_of, tree


async def test_clips_are_claimed_as_they_are_asked_for(tmp_path: Path) -> None:
    for number in range(10):
        put_file(tmp_path, f"{number}.mp4")
    source = source_of(tmp_path)
    deliveries = source.deliveries()
    await take(deliveries, 3)

    assert len([path for path in tree(tmp_path) if path.startswith("work/")]) == 3
    await source.close()
    assert tree(tmp_path) == [f"{number}.mp4" for number in range(10)]


async def test_two_sources_never_have_the_same_clip(tmp_path: Path) -> None:
    for number in range(100):
        put_file(tmp_path, f"sub{number % 7}/{number}.mp4")
    sources = [source_of(tmp_path) for _ in range(4)]

    names = await asyncio.gather(*map(finish_all, sources))

    together = [name for found in names for name in found]
    assert len(together) == len(set(together)) == 100
    assert len(tree(tmp_path / "done")) == 100
    assert kept_lock_files(tmp_path) == 0


async def test_claims_of_the_living_are_left_and_of_the_dead_are_taken_over(tmp_path: Path) -> None:
    for name in ("a", "sub/b"):
        put_file(tmp_path, name)
    first = source_of(tmp_path)
    claimed = await take_all(first.deliveries())
    await first.settle(step(claimed["a"], 0, 2))
    second = source_of(tmp_path)
    assert await take_all(second.deliveries()) == {}
    await second.close()

    first.abandon()

    third = source_of(tmp_path)
    found = await take_all(third.deliveries())
    assert {name: delivery.position.next_window for name, delivery in found.items()} == {"a": 2, "sub/b": 0}
    assert found["a"].clip.clip_id == claimed["a"].clip.clip_id
    for delivery in found.values():
        await third.settle(done(delivery))
    await third.close()
    assert tree(tmp_path) == ["done/a", "done/sub/b"]
    assert kept_lock_files(tmp_path) == 0


async def test_a_running_source_takes_over_from_one_that_dies(tmp_path: Path) -> None:
    put_file(tmp_path, "a")
    first = source_of(tmp_path)
    await take_all(first.deliveries())
    second = source_of(tmp_path, once=False, scan_s=0.1)
    deliveries = second.deliveries()
    taken = asyncio.create_task(take(deliveries, 1))
    await asyncio.sleep(0.15)
    assert not taken.done()

    first.abandon()

    assert set(await taken) == {"a"}
    await second.close()


async def test_a_claimed_link_to_a_folder_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    first = source_of(tmp_path)
    assert set(await take_all(first.deliveries())) == {"link"}
    first.abandon()

    second = source_of(tmp_path)
    assert set(await take_all(second.deliveries())) == {"link"}
    await second.close()


def test_the_lock_does_not_outlive_a_killed_process_in_its_children(tmp_path: Path) -> None:
    put_file(tmp_path, "a")
    program = (
        "import asyncio, os, sys, time\n"
        "from pathlib import Path\n"
        "from tests.contract.progress import take_all\n"
        "from tests.unit.connectors.folder.inboxes import source_of\n"
        "source = source_of(Path(sys.argv[1]))\n"
        "assert asyncio.run(take_all(source.deliveries()))\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(30)\n"
        "time.sleep(30)\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert killed.stdout is not None
    child = int(killed.stdout.readline())
    killed.stdout.close()
    killed.kill()
    killed.wait()
    try:
        survivor = source_of(tmp_path)
        assert asyncio.run(take_all(survivor.deliveries())).keys() == {"a"}
    finally:
        os.kill(child, 9)


async def test_a_clip_whose_name_came_again_stays_claimed_for_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_file(tmp_path, "a", b"one")
    source = source_of(tmp_path)
    first = (await take_all(source.deliveries()))["a"]
    await source.settle(step(first, 0, 1))
    put_file(tmp_path, "a", b"two!")
    await source.close()
    assert "a stays in work: another of its name came meanwhile." in caplog.text

    source = source_of(tmp_path)
    found = []
    async for delivery in source.deliveries():
        found.append((delivery.clip.media.size_bytes, delivery.position.next_window))
        await source.settle(done(delivery))
    await source.close()
    assert found == [(3, 1), (4, 0)]
    assert tree(tmp_path) == ["done/a", "done/a.1"]


async def test_a_clip_waits_for_the_earlier_one_of_its_name(tmp_path: Path) -> None:
    put_file(tmp_path, "a.mp4", b"one")
    source = source_of(tmp_path, once=False)
    deliveries = source.deliveries()
    first = (await take(deliveries, 1))["a.mp4"]
    put_file(tmp_path, "a.mp4", b"two!")
    second = asyncio.create_task(take(deliveries, 1))
    await asyncio.sleep(0.1)
    assert not second.done()

    await source.settle(done(first))

    assert (await second)["a.mp4"].clip.media.size_bytes == 4
    await source.settle(done((await second)["a.mp4"]))
    await source.close()
    assert tree(tmp_path) == ["done/a.1.mp4", "done/a.mp4"]


async def test_a_name_that_is_claimed_again_before_the_settling_returns_is_kept(tmp_path: Path) -> None:
    put_file(tmp_path, "a.mp4", b"one")
    source = source_of(tmp_path, once=False, scan_s=0.05)
    deliveries = source.deliveries()
    first = (await take(deliveries, 1))["a.mp4"]
    put_file(tmp_path, "a.mp4", b"two!")
    second = asyncio.create_task(take(deliveries, 1))
    patience = source._patience.run

    async def run_and_be_overtaken(*arguments: Any, **more: Any) -> None:
        await patience(*arguments, **more)
        await second  # the scan claims the free name before the event loop comes back

    source._patience.run = run_and_be_overtaken  # type: ignore[method-assign]
    await source.settle(done(first))
    source._patience.run = patience  # type: ignore[method-assign]

    await source.settle(done((await second)["a.mp4"]))
    await source.close()
    assert tree(tmp_path) == ["done/a.1.mp4", "done/a.mp4"]


async def test_a_claimed_file_that_goes_away_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put_file(tmp_path, "a")
    source = source_of(tmp_path)
    delivery = (await take_all(source.deliveries()))["a"]
    for path in (tmp_path / "work").glob("[!.]*/a"):
        path.unlink()
    with pytest.raises(Poison) as gone:
        delivery.clip.media.open()
    await source.settle(type(done(delivery)).rejected(delivery, gone.value, next_window=0, plan_hash=PLAN))
    await source.close()

    assert tree(tmp_path) == ["failed/a.reason.json"]
    assert "a is gone and can't be moved to failed." in caplog.text
