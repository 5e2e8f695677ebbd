"""A folder while it is read: files that grow, come late, or are many, and a folder that goes away (row F2)."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from connectors.folder import source as module
from connectors.folder.source import FolderSource
from tests.contract.folder_harness import put_file
from tests.contract.progress import done, name_of, take, take_all
from tests.unit.connectors.folder.inboxes import finish_all, source_of, tree, write_now


async def test_once_waits_for_a_file_to_stand_still(tmp_path: Path) -> None:
    write_now(tmp_path / "new.mp4", b"x")
    put_file(tmp_path, "old.mp4")
    started = time.monotonic()

    assert await finish_all(source_of(tmp_path, settle_s=0.3)) == ["new.mp4", "old.mp4"]
    assert time.monotonic() - started > 0.29  # whatever the time stamp of the old one says


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

    assert await finish_all(source_of(tmp_path, settle_s=1.0)) == []  # far above the pauses of a busy machine
    stop.set()
    await growing
    assert tree(tmp_path) == ["growing.mp4"]
    assert "growing.mp4 is still being written to: it is left for the next run." in caplog.text


async def test_once_ignores_what_comes_later(tmp_path: Path) -> None:
    write_now(tmp_path / "new.mp4", b"x")
    (tmp_path / "link").symlink_to("/nowhere")
    source = source_of(tmp_path, settle_s=0.2)
    deliveries = source.deliveries()
    assert set(await take(deliveries, 1)) == {"link"}  # found at once: the folder has been looked through
    put_file(tmp_path, "later.mp4")

    assert set(await take_all(deliveries)) == {"new.mp4"}
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
        while not source.waiting_for:
            await asyncio.sleep(0.01)
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
    first_s = 0.0
    async for delivery in source.deliveries():
        if not names:
            first_s = time.monotonic() - started
            assert sum(len(names) for _, _, names in os.walk(tmp_path / "work")) == 2  # the clip and the lock
        names.add(name_of(delivery))
    await source.close()

    assert len(names) == count
    assert first_s < (time.monotonic() - started) / 2


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
