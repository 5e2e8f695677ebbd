"""Files that can't be taken, on the real file system and as a real second user: each is left, and the rest goes on."""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.folder_harness import put_file
from tests.contract.progress import done, name_of, rejected, take
from tests.unit.connectors.folder.inboxes import finish_all, second_user, source_of, tree
from tests.unit.connectors.folder.other_users import LIMIT_S, OURS, THEIRS, did, give, mounted, needs_root, warnings


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
