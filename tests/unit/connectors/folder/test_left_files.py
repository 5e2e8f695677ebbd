"""Files that can't be taken, on the real file system and as a real second user: each is left, and the rest goes on."""

import asyncio
import errno
import json
import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from connectors.at_least_once import AtLeastOnceRoute
from connectors.errors import ConfigurationError
from connectors.memory import MemorySink
from connectors.messages.codec import caption_to_json, rejection_to_json
from tests.contract.folder_harness import put_file
from tests.contract.progress import caption, done, name_of, rejected, take, take_all
from tests.unit.connectors.folder.inboxes import finish_all, second_user, shared_folder, source_of, tree

LIMIT_S = 30.0  # a test that stands still fails
OURS, THEIRS = 54321, 54322

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a second user is made by root")


@pytest.fixture
def inbox() -> Iterator[Path]:
    """A folder of our user's, with a clip that nothing is wrong with."""
    with shared_folder() as folder:
        (folder / "inbox").mkdir()
        put_file(folder / "inbox", "z.mp4")
        give(folder / "inbox", OURS)
        yield folder / "inbox"


def give(path: Path, uid: int) -> None:
    for each in (path, *path.rglob("*")):
        os.chown(each, uid, uid, follow_symlinks=False)


def did(tool: str, *arguments: str | Path) -> bool:
    """Run a tool of the system, and return whether it is there and did its work."""
    found = shutil.which(tool)
    return found is not None and subprocess.run([found, *arguments], capture_output=True).returncode == 0


@contextmanager
def mounted(at: Path, *options: str) -> Iterator[None]:
    """Mount a small file system in memory, and skip the test where that is not allowed."""
    at.mkdir(parents=True, exist_ok=True)
    if not did("mount", "-t", "tmpfs", *options, "tmpfs", at):
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        assert did("umount", "-l", at)


def sticky(inbox: Path) -> None:
    put_file(inbox, "theirs.mp4")
    os.chown(inbox / "theirs.mp4", THEIRS, THEIRS)
    os.chown(inbox, 0, 0)
    inbox.chmod(0o1777)


def in_a_folder_that_is_not_ours(inbox: Path) -> None:
    put_file(inbox, "sub/theirs.mp4")
    (inbox / "sub").chmod(0o755)


def unreadable(inbox: Path) -> None:
    put_file(inbox, "theirs.mp4").chmod(0o600)


def in_a_folder_that_cannot_be_listed(inbox: Path) -> None:
    put_file(inbox, "sub/theirs.mp4")
    (inbox / "sub").chmod(0o700)


def in_a_folder_that_cannot_be_entered(inbox: Path) -> None:
    put_file(inbox, "sub/theirs.mp4")
    (inbox / "sub").chmod(0o744)


WAYS: dict[str, tuple[Callable[[Path], None], str]] = {
    "sticky": (sticky, "theirs.mp4 can't be claimed (Operation not permitted)"),
    "not writable": (in_a_folder_that_is_not_ours, "sub/theirs.mp4 can't be claimed (Permission denied)"),
    "unreadable": (unreadable, "theirs.mp4 can't be read (Permission denied)"),
    "not listed": (in_a_folder_that_cannot_be_listed, "sub can't be read (Permission denied)"),
    "not entered": (in_a_folder_that_cannot_be_entered, "sub/theirs.mp4 can't be looked at (Permission denied)"),
}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@needs_root
@pytest.mark.parametrize("way", WAYS)
async def test_a_file_of_somebody_else_is_left_and_said_once(
    inbox: Path, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    spoil, sentence = WAYS[way]
    spoil(inbox)
    put_file(inbox, "a.mp4")
    os.chown(inbox / "a.mp4", OURS, OURS)

    with second_user(OURS):
        source = source_of(inbox)
        assert await asyncio.wait_for(finish_all(source), LIMIT_S) == ["a.mp4", "z.mp4"]

    assert source.counters["left"] == 1
    (said,) = warnings(caplog)
    assert said.startswith(f"{sentence}: it is left where it is; ")
    assert "captiond's user must" in said
    assert (inbox / "theirs.mp4").exists() or (inbox / "sub/theirs.mp4").exists()


@needs_root
@pytest.mark.parametrize("way", WAYS)
async def test_it_is_taken_once_it_can_be(inbox: Path, way: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    WAYS[way][0](inbox)

    with second_user(OURS):
        source = source_of(inbox, once=False, scan_s=0.1)
        deliveries = source.deliveries()
        assert set(await take(deliveries, 1)) == {"z.mp4"}
        reading = asyncio.create_task(take(deliveries, 1))
        while not source.counters["left"]:
            await asyncio.sleep(0.02)
        assert not reading.done()
        assert source.waiting_for == ""
    give(inbox, OURS)
    for folder in (inbox, inbox / "sub"):
        if folder.exists():
            folder.chmod(0o755)
    with second_user(OURS):
        (name,) = await asyncio.wait_for(reading, LIMIT_S)
        await source.close()
        await deliveries.aclose()

    assert name.endswith("theirs.mp4")
    assert len(warnings(caplog)) == 1


@needs_root
async def test_a_file_system_in_the_folder_is_left(inbox: Path, caplog: pytest.LogCaptureFixture) -> None:
    with mounted(inbox / "mount"):
        put_file(inbox, "mount/x.mp4")

        assert await asyncio.wait_for(finish_all(source_of(inbox)), LIMIT_S) == ["z.mp4"]

        assert (inbox / "mount/x.mp4").exists()
    (said,) = warnings(caplog)
    assert said.startswith(
        "mount/x.mp4 can't be claimed (Invalid cross-device link): it is left where it is; its folder"
    )


@needs_root
async def test_a_file_that_is_immutable_is_left(inbox: Path, caplog: pytest.LogCaptureFixture) -> None:
    put_file(inbox, "a.mp4")
    if not did("chattr", "+i", inbox / "a.mp4"):
        pytest.skip("no immutable files here")
    try:
        assert await asyncio.wait_for(finish_all(source_of(inbox)), LIMIT_S) == ["z.mp4"]
    finally:
        assert did("chattr", "-i", inbox / "a.mp4")

    assert warnings(caplog)[0].startswith("a.mp4 can't be claimed (Operation not permitted): it is left where it is")


async def test_pipes_sockets_and_devices_are_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put_file(tmp_path, "z.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.mp4"))
    if os.geteuid() == 0:
        os.mknod(tmp_path / "zero.mp4", 0o20666, os.makedev(1, 5))

    assert await asyncio.wait_for(finish_all(source_of(tmp_path)), LIMIT_S) == ["z.mp4"]
    assert len(warnings(caplog)) == 2 + (os.geteuid() == 0)
    assert all("is not a regular file: it is left where it is" in said for said in warnings(caplog))


async def test_a_link_that_leads_nowhere_ends_as_its_own_clip(tmp_path: Path) -> None:
    put_file(tmp_path, "z.mp4")
    (tmp_path / "gone.mp4").symlink_to("nothing")
    source = source_of(tmp_path)
    async for delivery in source.deliveries():
        await source.settle(rejected(delivery) if name_of(delivery) == "gone.mp4" else done(delivery))
    await source.close()

    assert tree(tmp_path) == ["done/z.mp4", "failed/gone.mp4", "failed/gone.mp4.reason.json"]


@pytest.mark.parametrize(
    "number",
    [errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOMEM, errno.ENAMETOOLONG, errno.EBUSY],
)
async def test_whatever_the_reason_is_only_its_file_is_left(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.mp4", "b.mp4", "z.mp4"):
        put_file(tmp_path, name)
    source = source_of(tmp_path)
    claim = source._claims.claim
    monkeypatch.setattr(source._claims, "claim", lambda parts: claim(parts) if parts != ("b.mp4",) else fail(number))

    assert await asyncio.wait_for(finish_all(source), LIMIT_S) == ["a.mp4", "z.mp4"]
    assert source.counters["left"] == 1


def fail(number: int) -> bool:
    raise OSError(number, os.strerror(number))


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


async def test_a_file_where_an_ended_clip_needs_a_folder_gives_it_another_name(tmp_path: Path) -> None:
    put_file(tmp_path, "done/porch")
    put_file(tmp_path, "failed/porch")
    put_file(tmp_path, "porch/b.mp4")
    put_file(tmp_path, "porch/deep/c.mp4")
    source = source_of(tmp_path)

    async def end() -> None:
        async for delivery in source.deliveries():
            await source.settle(done(delivery) if name_of(delivery).endswith("b.mp4") else rejected(delivery))
        await source.close()

    await asyncio.wait_for(end(), LIMIT_S)
    assert tree(tmp_path) == [
        *("done/porch", "done/porch.1/b.mp4", "failed/porch"),
        *("failed/porch.1/deep/c.mp4", "failed/porch.1/deep/c.mp4.reason.json"),
    ]


async def test_a_clip_beneath_the_name_of_one_in_work_waits_for_it(tmp_path: Path) -> None:
    put_file(tmp_path, "a")
    source = source_of(tmp_path, once=False, scan_s=0.05)
    deliveries = source.deliveries()
    first = (await take(deliveries, 1))["a"]
    put_file(tmp_path, "a/b.mp4")
    reading = asyncio.create_task(take(deliveries, 1))
    await asyncio.sleep(0.3)
    assert not reading.done()

    await source.settle(done(first))

    second = (await asyncio.wait_for(reading, LIMIT_S))["a/b.mp4"]
    await source.settle(done(second))
    await source.close()
    await deliveries.aclose()
    assert tree(tmp_path) == ["done/a", "done/a.1/b.mp4"]


async def test_the_users_own_folders_with_our_names_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("done/mine.mp4", "failed/mine.mp4", "a.mp4"):
        put_file(tmp_path, name)
    for _ in range(2):
        await asyncio.wait_for(finish_all(source_of(tmp_path)), LIMIT_S)

    assert warnings(caplog) == [
        f"{top}/ was here before: ended clips go there, and nothing in it is ever taken." for top in ("done", "failed")
    ]


async def test_a_folder_of_the_users_in_work_is_none_of_a_dead_instance(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_file(tmp_path, "work/project/mine.mp4")
    put_file(tmp_path, "a.mp4")

    assert await asyncio.wait_for(finish_all(source_of(tmp_path)), LIMIT_S) == ["a.mp4"]
    assert tree(tmp_path) == ["done/a.mp4", "work/project/mine.mp4"]
    assert warnings(caplog) == ["work/project is no folder of captiond's: nothing is taken from it."]


NAMES = [
    "a\u202fb.mp4",
    "a\u00a0b.mp4",
    "a  b.mp4",
    " a.mp4",
    "a.mp4 ",
    "a\nb.mp4",
    "caf\u00e9.mp4",
    "cafe\u0301.mp4",
    "a\tb",
]


@pytest.mark.parametrize("name", NAMES)
async def test_names_are_exact(tmp_path: Path, name: str) -> None:
    put_file(tmp_path, f"d/{name}")
    source = source_of(tmp_path)
    delivery = next(iter((await take_all(source.deliveries())).values()))
    rejection = rejected(delivery).rejection
    assert rejection is not None

    assert json.loads(caption_to_json(caption(delivery, 0), delivery.clip.media.name))["clip_name"] == f"d/{name}"
    assert json.loads(rejection_to_json(rejection, delivery.clip.media.name))["clip_name"] == f"d/{name}"
    await source.settle(done(delivery))
    await source.close()
    assert (tmp_path / "done/d" / name).is_file()


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
