"""Folders that nothing can be written to: a full disk is waited for, and a run that ends says why."""

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.at_least_once import AtLeastOnceRoute
from connectors.errors import ConfigurationError
from connectors.memory import MemorySink
from tests.contract.folder_harness import put_file
from tests.contract.progress import done, take, take_all
from tests.unit.connectors.folder.inboxes import finish_all, second_user, source_of
from tests.unit.connectors.folder.other_users import LIMIT_S, OURS, THEIRS, give, mounted, needs_root, warnings


@needs_root
async def test_a_disk_that_is_full_is_waited_for_and_not_each_file_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with mounted(tmp_path / "inbox", "-o", "size=1m,nr_inodes=12"):
        inbox = tmp_path / "inbox"
        for name in ("a.mp4", "sub/b.mp4"):
            put_file(inbox, name)
        source = source_of(inbox, once=False, scan_s=0.1)
        deliveries = source.deliveries()
        source._claims.open()
        fill = [inbox / f".fill{number}" for number in range(20)]
        filled = list(filled_up(fill))
        reading = asyncio.create_task(take(deliveries, 2))
        while not source.waiting_for:
            await asyncio.sleep(0.02)
        assert source.counters["left"] == 0
        filled.pop().unlink()
        filled.pop().unlink()

        assert set(await asyncio.wait_for(reading, LIMIT_S)) == {"a.mp4", "sub/b.mp4"}
        await source.close()
        await deliveries.aclose()
    assert warnings(caplog) == ["Source inbox can't be scanned and waits: No space left on device."]


def filled_up(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        try:
            path.touch()
        except OSError:
            return
        yield path


@needs_root
async def test_a_run_that_ends_by_itself_refuses_a_folder_that_it_may_not_write_to(inbox: Path) -> None:
    give(inbox, THEIRS)
    with second_user(OURS), pytest.raises(ConfigurationError) as refused:
        await asyncio.wait_for(finish_all(source_of(inbox)), LIMIT_S)

    assert str(refused.value) == "sources.inbox.path: nothing can be taken: Permission denied"


@needs_root
@pytest.mark.parametrize("once", [True, False])
async def test_a_clip_that_cannot_be_moved_when_it_ends_holds_up_nothing(
    inbox: Path, once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    put_file(inbox, "a/x.mp4")
    put_file(inbox, "done/a/earlier.mp4")
    (inbox / "work").mkdir()
    give(inbox, OURS)
    os.chown(inbox / "done/a", THEIRS, THEIRS)
    (inbox / "done/a").chmod(0o755)
    with second_user(OURS):
        source = source_of(inbox, once=once, scan_s=0.1)
        sink = MemorySink()
        route = AtLeastOnceRoute(source, sink)
        deliveries = route.deliveries()
        found = await asyncio.wait_for(take(deliveries, 2), LIMIT_S)
        for delivery in found.values():
            await asyncio.wait_for(route.publish(done(delivery)), LIMIT_S)
        assert warnings(caplog) == ["a/x.mp4 is finished and stays in work, for it can't be moved: Permission denied."]
        if once:
            assert [delivery async for delivery in deliveries] == []
    os.chown(inbox / "done/a", OURS, OURS)
    with second_user(OURS):
        if not once:
            reading = asyncio.create_task(take_all(deliveries))
            while not (inbox / "done/a/x.mp4").exists():
                await asyncio.sleep(0.02)
            await source.drain()
            assert await asyncio.wait_for(reading, LIMIT_S) == {}
        await route.close()
    assert (inbox / "z.mp4").exists() is False
    assert (inbox / ("a/x.mp4" if once else "done/a/x.mp4")).exists()


async def test_a_disk_that_has_room_again_at_the_second_look_leaves_no_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_file(tmp_path / "inbox", "a.mp4")
    source = source_of(tmp_path / "inbox", once=True)
    claim, faults = source._claims.claim, [OSError(errno.ENOSPC, "full")]

    def full_once(parts: tuple[str, ...]) -> bool:
        if faults:
            raise faults.pop()
        return claim(parts)

    monkeypatch.setattr(source._claims, "claim", full_once)

    assert list(await take(source.deliveries(), 1)) == ["a.mp4"]
    assert (source.counters["left"], warnings(caplog)) == (0, [])
    await source.close()
