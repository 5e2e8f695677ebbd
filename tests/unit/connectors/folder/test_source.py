"""The folder source: claims, takeovers, ends, and what happens to a folder while it is watched (row F2)."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from connectors.at_least_once import AtLeastOnceRoute
from connectors.contract import Delivery
from connectors.errors import Poison, Reason
from connectors.folder import source as module
from connectors.folder.route import FolderRoute
from connectors.folder.settings import FolderSinkSettings, FolderSourceSettings
from connectors.folder.sink import FolderSink
from connectors.folder.source import FolderSource
from connectors.memory import MemorySink
from testing.repository import ROOT
from tests.contract.folder_harness import put_file
from tests.contract.progress import PLAN, done, name_of, rejected, step, take, take_all


def source_of(inbox: Path, *, once: bool = True, **settings: object) -> FolderSource:
    values = {"settle_s": 0.1, "scan_s": 0.3} | settings
    return FolderSource("inbox", FolderSourceSettings(path=inbox, **values), once=once)  # type: ignore[arg-type]


def tree(folder: Path) -> list[str]:
    """Return every file, without what the source keeps for itself."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return sorted(str(path) for path in found if not path.name.startswith("."))


def write_now(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def kept_lock_files(inbox: Path) -> int:
    return len(list(inbox.rglob(".lock")))


async def finish_all(source: FolderSource) -> list[str]:
    names = []
    async for delivery in source.deliveries():
        names.append(name_of(delivery))
        await source.settle(done(delivery))
    await source.close()
    return names


async def test_clips_end_in_done(tmp_path: Path) -> None:
    for name in ("a.mp4", "sub/dir/b.mp4", "no suffix"):
        put_file(tmp_path, name)

    assert await finish_all(source_of(tmp_path)) == ["a.mp4", "no suffix", "sub/dir/b.mp4"]
    assert tree(tmp_path) == ["done/a.mp4", "done/no suffix", "done/sub/dir/b.mp4"]
    assert kept_lock_files(tmp_path) == 0


async def test_rejected_clips_end_in_failed_with_the_reason(tmp_path: Path) -> None:
    put_file(tmp_path, "sub/a.mp4")
    source = source_of(tmp_path)
    delivery = (await take_all(source.deliveries()))["sub/a.mp4"]
    await source.settle(rejected(delivery, next_window=2))
    await source.close()

    assert tree(tmp_path) == ["failed/sub/a.mp4", "failed/sub/a.mp4.reason.json"]
    assert json.loads((tmp_path / "failed/sub/a.mp4.reason.json").read_text()) == {
        "clip_id": delivery.clip.clip_id,
        "source": "inbox",
        "reason": "corrupt",
        "detail": "it can't be decoded",
        "origin": "sampler",
        "attempts": 1,
        "next_window": 2,
    }


async def test_clips_of_one_name_end_beside_each_other(tmp_path: Path) -> None:
    for number in range(3):
        put_file(tmp_path, "a.mp4", b"x" * (number + 1))
        await finish_all(source_of(tmp_path))
    for number in range(2):
        put_file(tmp_path, "a.mp4", b"y" * (number + 1))
        source = source_of(tmp_path)
        await source.settle(rejected((await take_all(source.deliveries()))["a.mp4"]))
        await source.close()

    assert tree(tmp_path) == [
        "done/a.1.mp4",
        "done/a.2.mp4",
        "done/a.mp4",
        "failed/a.1.mp4",
        "failed/a.1.mp4.reason.json",
        "failed/a.mp4",
        "failed/a.mp4.reason.json",
    ]
    assert (tmp_path / "done/a.2.mp4").read_bytes() == b"xxx"


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


async def test_links_are_refused_and_moved_themselves(tmp_path: Path) -> None:
    secret = put_file(tmp_path, "outside/secret.mp4", b"secret")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "file.mp4").symlink_to(secret)
    (inbox / "folder").symlink_to(secret.parent)
    source = source_of(inbox)
    async for delivery in source.deliveries():
        with pytest.raises(Poison) as refused:
            delivery.clip.media.open()
        assert refused.value.reason == Reason.FORBIDDEN_PATH
        await source.settle(type(done(delivery)).rejected(delivery, refused.value, next_window=0, plan_hash=PLAN))
    await source.close()

    assert tree(inbox) == [f"failed/{name}" for name in ("file.mp4", "file.mp4.reason.json", "folder")] + [
        "failed/folder.reason.json"
    ]
    assert (inbox / "failed/folder").is_symlink()
    assert secret.read_bytes() == b"secret"


async def test_a_folder_that_becomes_a_link_gives_nothing_away(tmp_path: Path) -> None:
    inbox, outside = tmp_path / "inbox", tmp_path / "outside"
    put_file(outside, "x.mp4")
    put_file(inbox, "a.mp4")
    put_file(inbox, "sub/x.mp4")
    source = source_of(inbox)
    found: list[Delivery] = []
    async for delivery in source.deliveries():
        found.append(delivery)
        if len(found) == 1:
            (inbox / "sub").rename(tmp_path / "taken")
            (inbox / "sub").symlink_to(outside)
        await source.settle(done(delivery))
    await source.close()

    assert (outside / "x.mp4").exists()


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
        "from tests.unit.connectors.folder.test_source import source_of, take_all, Path\n"
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


async def test_a_position_does_not_fit_a_file_that_changed(tmp_path: Path) -> None:
    path = put_file(tmp_path, "a")
    source = source_of(tmp_path)
    await source.settle(step((await take_all(source.deliveries()))["a"], 0, 2))
    await source.close()
    path.write_bytes(b"another")

    source = source_of(tmp_path)
    assert (await take_all(source.deliveries()))["a"].position.next_window == 0
    await source.close()


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"next_window": "x"}', b"\xff"])
async def test_a_note_that_cannot_be_read_counts_as_none(tmp_path: Path, note: bytes) -> None:
    put_file(tmp_path, "a")
    source = source_of(tmp_path)
    delivery = (await take_all(source.deliveries()))["a"]
    await source.settle(step(delivery, 0, 2))
    await source.close()
    (tmp_path / "work/.positions" / f"{delivery.clip.clip_id}.json").write_bytes(note)

    source = source_of(tmp_path)
    assert (await take_all(source.deliveries()))["a"].position.next_window == 0
    await source.close()


async def test_notes_go_with_their_clips(tmp_path: Path) -> None:
    put_file(tmp_path, "a")
    source = source_of(tmp_path)
    delivery = (await take_all(source.deliveries()))["a"]
    await source.settle(step(delivery, 0, 2))
    await source.quarantine(delivery)
    assert len(os.listdir(tmp_path / "work/.positions")) == 1
    await source.settle(done(delivery))
    await source.close()

    assert os.listdir(tmp_path / "work/.positions") == []


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


@pytest.mark.parametrize("to_files", [True, False])
async def test_a_file_that_grows_while_it_is_read_is_rejected(tmp_path: Path, to_files: bool) -> None:
    inbox = tmp_path / "inbox"
    writer = put_file(inbox, "a").open("ab")
    folder_sink, memory_sink = FolderSink(FolderSinkSettings(path=tmp_path / "captions")), MemorySink()
    source = source_of(inbox)
    route = FolderRoute(source, folder_sink) if to_files else AtLeastOnceRoute(source, memory_sink)
    delivery = (await take_all(route.deliveries()))["a"]
    await route.publish(step(delivery, 0, 2))
    writer.write(b"more")
    writer.close()

    with pytest.raises(Poison) as changed:
        await route.publish(step(delivery, 2, 3, last=True))
    await route.publish(type(done(delivery)).rejected(delivery, changed.value, next_window=2, plan_hash=PLAN))
    await route.close()

    assert changed.value.reason == Reason.CHANGED
    assert changed.value.detail == "the file changed from 4 to 8 bytes after it was received"
    assert tree(inbox) == ["failed/a", "failed/a.reason.json"]


async def test_once_waits_for_a_file_to_stand_still(tmp_path: Path) -> None:
    write_now(tmp_path / "new.mp4", b"x")
    put_file(tmp_path, "old.mp4")
    started = time.monotonic()

    assert await finish_all(source_of(tmp_path, settle_s=0.3)) == ["old.mp4", "new.mp4"]
    assert 0.2 < time.monotonic() - started < 2


async def test_once_leaves_what_is_still_being_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "growing.mp4"
    stop = asyncio.Event()

    async def grow() -> None:
        while not stop.is_set():
            with path.open("ab") as file:
                file.write(b"x")
            await asyncio.sleep(0.02)

    growing = asyncio.create_task(grow())
    await asyncio.sleep(0.03)

    assert await finish_all(source_of(tmp_path, settle_s=0.2)) == []
    stop.set()
    await growing
    assert tree(tmp_path) == ["growing.mp4"]
    assert "growing.mp4 is still being written to: it is left for the next run." in caplog.text


async def test_once_ignores_what_comes_later(tmp_path: Path) -> None:
    write_now(tmp_path / "new.mp4", b"x")
    source = source_of(tmp_path, settle_s=0.2)
    reading = asyncio.create_task(take_all(source.deliveries()))
    await asyncio.sleep(0.1)
    put_file(tmp_path, "later.mp4")

    assert set(await reading) == {"new.mp4"}
    await source.close()


async def named_once_it_is_put(source: FolderSource, inbox: Path, name: str, after_s: float) -> set[str]:
    """Put a file into a folder that is already read, and return what is delivered."""
    deliveries = source.deliveries()
    reading = asyncio.create_task(take(deliveries, 1))
    await asyncio.sleep(after_s)
    put_file(inbox, name)
    found = set(await reading)
    await source.close()
    return found


async def test_a_new_file_is_noticed_before_the_next_scan(tmp_path: Path) -> None:
    source = source_of(tmp_path, once=False, scan_s=60.0)

    assert await named_once_it_is_put(source, tmp_path, "sub/a.mp4", 0.2) == {"sub/a.mp4"}


async def test_what_no_event_says_the_scan_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def blind(*_: object) -> None:
        """See nothing, as on a network file system."""

    monkeypatch.setattr(module, "watch_folder", blind)
    source = source_of(tmp_path, once=False, scan_s=0.2)

    assert await named_once_it_is_put(source, tmp_path, "a.mp4", 0.05) == {"a.mp4"}


@pytest.mark.parametrize("seen", [True, False])
async def test_a_folder_that_is_deleted_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, seen: bool
) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.1)
    inbox = tmp_path / "inbox"
    put_file(inbox, "a.mp4")
    source = source_of(inbox, once=False, scan_s=0.1)
    deliveries = source.deliveries()
    await take(deliveries, 1)
    inbox.rename(tmp_path / "gone")
    reading = asyncio.create_task(take(deliveries, 1))
    if seen:
        await asyncio.sleep(0.3)
        assert source.waiting_for == "the folder: No such file or directory"
        assert "Source inbox can't be scanned and waits: No such file or directory." in caplog.text
    put_file(inbox, "b.mp4")

    assert set(await reading) == {"b.mp4"}
    assert source.waiting_for == ""
    await source.close()


@pytest.mark.slow
async def test_twenty_thousand_files_at_once(tmp_path: Path) -> None:
    """Each is delivered once, the first soon, and never more is claimed than was asked for."""
    count = 20_000
    tmp_path.joinpath("sub").mkdir()
    for number in range(count):
        descriptor = os.open(tmp_path / (f"sub/{number}" if number % 2 else f"{number}"), os.O_CREAT | os.O_WRONLY)
        os.utime(descriptor, (1, 1))
        os.close(descriptor)
    source = source_of(tmp_path)
    started = time.monotonic()
    names: set[str] = set()
    async for delivery in source.deliveries():
        if not names:
            assert time.monotonic() - started < 2
            assert sum(len(names) for _, _, names in os.walk(tmp_path / "work")) == 2  # the clip and the lock
        names.add(name_of(delivery))
    await source.close()

    assert len(names) == count


async def test_a_full_disk_moves_no_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.unit.connectors.folder.test_sink import full_disk

    caplog.set_level(logging.INFO)
    put_file(tmp_path, "a")
    source = source_of(tmp_path)
    delivery = (await take_all(source.deliveries()))["a"]
    with full_disk(10):
        settling = asyncio.create_task(source.settle(step(delivery, 0, 1)))
        await asyncio.sleep(0.05)
        assert not settling.done()
        assert os.listdir(tmp_path / "work/.positions") == []
        assert source.waiting_for == "the disk: File too large"
    await settling
    await source.close()

    source = source_of(tmp_path)
    assert (await take_all(source.deliveries()))["a"].position.next_window == 1
    await source.close()


async def test_a_source_makes_its_folder(tmp_path: Path) -> None:
    assert await finish_all(source_of(tmp_path / "new" / "inbox")) == []
    assert (tmp_path / "new" / "inbox").is_dir()


async def test_a_pattern_chooses(tmp_path: Path) -> None:
    for name in ("a.mp4", "sub/b.mp4", "c.txt"):
        put_file(tmp_path, name)

    assert await finish_all(source_of(tmp_path, pattern="**/*.mp4")) == ["a.mp4", "sub/b.mp4"]
    assert tree(tmp_path) == ["c.txt", "done/a.mp4", "done/sub/b.mp4"]


async def test_names_that_are_not_unicode(tmp_path: Path) -> None:
    put_file(tmp_path, os.fsdecode(b"\xff\xfe.mp4"))
    captions = FolderSink(FolderSinkSettings(path=tmp_path / "captions"))
    inbox = source_of(tmp_path, pattern="*.mp4")
    route = FolderRoute(inbox, captions)
    async for delivery in route.deliveries():
        await route.publish(rejected(delivery))
    await route.close()

    assert os.fsencode(tmp_path) + b"/failed/\xff\xfe.mp4" in [
        os.fsencode(path) for path in (tmp_path / "failed").iterdir()
    ]


async def test_the_longest_name(tmp_path: Path) -> None:
    name = "x" * 250 + ".mp4"
    put_path = tmp_path / name
    write_now(put_path, b"x")
    captions = FolderSink(FolderSinkSettings(path=tmp_path / "captions"))
    route = FolderRoute(source_of(tmp_path, pattern="*.mp4"), captions)
    async for delivery in route.deliveries():
        await route.publish(rejected(delivery))
    await route.close()

    assert len(os.listdir(tmp_path / "failed")) == 2
    write_now(put_path, b"xy")
    assert await finish_all(source_of(tmp_path, pattern="*.mp4")) == [name]
    write_now(put_path, b"xyz")
    assert await finish_all(source_of(tmp_path, pattern="*.mp4")) == [name]
    assert len(os.listdir(tmp_path / "done")) == 2


async def test_what_waits_in_the_folder_is_counted(tmp_path: Path) -> None:
    for number in range(5):
        put_file(tmp_path, f"sub/{number}.mp4")
    (tmp_path / "unfinished.mp4.part").write_bytes(b"x")
    source = source_of(tmp_path, once=False)
    assert source.lag == {}

    deliveries = source.deliveries()
    first = await anext(deliveries)
    while source.lag != {("", ""): 4}:
        await asyncio.sleep(0.02)
    await anext(deliveries)
    await source.settle(done(first))

    assert source.lag == {("", ""): 3}
    await source.close()
    await deliveries.aclose()
