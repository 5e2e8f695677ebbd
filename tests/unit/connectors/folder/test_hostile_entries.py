"""Hostile entries of a watched folder end their own clips at most: nothing stands still and nothing ends."""

import asyncio
import errno
import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.contract import Delivery, Progress
from connectors.errors import Poison, Reason
from connectors.files.durable import write_whole
from connectors.folder.patterns import fits_pattern
from connectors.folder.positions import FolderPositions
from connectors.folder.source import FolderSource
from tests.contract.folder_harness import put_file
from tests.contract.progress import PLAN, done, step, take_all
from tests.unit.connectors.folder.inboxes import finish_all, source_of, tree

LIMIT_S = 20.0  # a test that stands still fails
CORRUPT = Poison(Reason.CORRUPT, "no video")


def failed(delivery: Delivery, fault: Poison) -> Progress:
    return Progress.rejected(delivery, fault, next_window=0, plan_hash=PLAN)


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder that is removed by a program that takes any depth; Python's own means end in a RecursionError."""
    yield tmp_path
    for path in tmp_path.iterdir():
        subprocess.run(["/bin/rm", "-rf", "--", path], check=True)


def put_deep(root: Path, name: str, depth: int, content: bytes = b"clip") -> None:
    """Write a file so many folders deep, whatever its path's length."""
    folder = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=folder)
        inner = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    file = os.open("clip.mp4", os.O_WRONLY | os.O_CREAT, dir_fd=folder)
    os.write(file, content)
    os.utime(file, (1_700_000_000, 1_700_000_000))
    os.close(file)
    os.close(folder)


async def finish(source: FolderSource) -> list[str]:
    return await asyncio.wait_for(finish_all(source), LIMIT_S)


async def reject_all(source: FolderSource) -> list[str]:
    """Reject every clip, and return the reasons of those that can't be opened."""
    reasons: list[str] = []

    async def reject() -> None:
        async for delivery in source.deliveries():
            fault = CORRUPT
            try:
                os.close(delivery.clip.media.open())
            except Poison as refused:
                fault = refused
            reasons.append(fault.reason)
            await source.settle(failed(delivery, fault))
        await source.close()

    await asyncio.wait_for(reject(), LIMIT_S)
    return reasons


@pytest.mark.parametrize("pattern", ["**/*", "**", "**/a/**/*", "/".join(["**"] * 40) + "/x", "/".join(["a"] * 2500)])
def test_a_pattern_takes_paths_of_any_length(pattern: str) -> None:
    fits_pattern(["a"] * 2500, pattern.split("/"))
    assert fits_pattern(["a"] * 2500, ["**", "*"])
    assert fits_pattern(["a"] * 2500, ["a"] * 2500)
    assert not fits_pattern(["a"] * 2500, [*["**", "a"] * 20, "b"])


# a file that is taken over is a clip too
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "depth"),
    [
        pytest.param("d", 1100, id="1,100 folders", marks=pytest.mark.thorough),
        pytest.param("d" * 200, 40, id="8,000 bytes"),
    ],
)
async def test_a_deep_file_is_a_clip(deep: Path, name: str, depth: int) -> None:
    put_file(deep, "zz.mp4")
    put_deep(deep, name, depth)

    assert sorted(map(len, await finish(source_of(deep)))) == sorted([6, (len(name) + 1) * depth + 8])


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("name", "depth"), [("d", 1100), ("d" * 200, 40)], ids=["1,100 folders", "8,000 bytes"])
async def test_a_deep_file_is_taken_over(deep: Path, name: str, depth: int) -> None:
    put_deep(deep, name, depth)
    first = source_of(deep)
    assert len(await take_all(first.deliveries())) == 1
    first.abandon()

    second = source_of(deep)
    assert len(await finish(second)) == 1
    assert second.counters == {"taken_over": 1, "left": 0}


async def test_what_lies_too_deep_is_left_and_said_once(deep: Path, caplog: pytest.LogCaptureFixture) -> None:
    put_file(deep, "zz.mp4")
    put_deep(deep, "d", 1300)
    source = source_of(deep)

    assert await finish(source) == ["zz.mp4"]
    assert "lies more than 1200 folders deep" in caplog.text


def plant_link(path: Path) -> None:
    path.symlink_to("/proc")  # a folder that nobody can write into, whatever goes wrong


def plant_file(path: Path) -> None:
    path.write_bytes(b"no folder")
    os.utime(path, (1_700_000_000, 1_700_000_000))


def plant_pipe(path: Path) -> None:
    os.mkfifo(path)


PLANTS = {"link": plant_link, "file": plant_file, "pipe": plant_pipe}


@pytest.mark.parametrize("top", ["work", "done", "failed"])
@pytest.mark.parametrize("plant", PLANTS.values(), ids=list(PLANTS))
async def test_what_is_called_like_our_folders_gives_way(
    tmp_path: Path, top: str, plant: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    put_file(tmp_path, "a.mp4")
    plant(tmp_path / top)

    reasons = await reject_all(source_of(tmp_path))

    expected = {plant_link: [Reason.FORBIDDEN_PATH], plant_file: [Reason.CORRUPT], plant_pipe: []}[plant]
    assert sorted(reasons) == sorted([Reason.CORRUPT, *expected])
    assert (tmp_path / "failed/a.mp4").is_file()
    assert f"{top} is no folder: it is called {top}.1 now" in caplog.text


@pytest.mark.parametrize("top", ["done", "failed"])
async def test_a_link_that_comes_while_the_clip_is_worked_on_gives_way(tmp_path: Path, top: str) -> None:
    put_file(tmp_path, "sub/a.mp4")
    source = source_of(tmp_path)
    delivery = (await take_all(source.deliveries()))["sub/a.mp4"]
    (tmp_path / top).rmdir()
    plant_link(tmp_path / top)

    await asyncio.wait_for(source.settle(failed(delivery, CORRUPT) if top == "failed" else done(delivery)), LIMIT_S)
    await source.close()

    assert (tmp_path / top / "sub/a.mp4").is_file()


@pytest.mark.parametrize("plant", PLANTS.values(), ids=list(PLANTS))
async def test_a_folder_whose_name_an_ended_clip_has_gets_one_like_it(
    tmp_path: Path, plant: Callable[[Path], None]
) -> None:
    put_file(tmp_path, "a.mp4/b.mp4")
    (tmp_path / "done").mkdir()
    plant(tmp_path / "done/a.mp4")

    assert await finish(source_of(tmp_path)) == ["a.mp4/b.mp4"]
    assert (tmp_path / "done/a.1.mp4/b.mp4").is_file()


@pytest.mark.parametrize("plant", [*PLANTS.values(), Path.mkdir], ids=[*PLANTS, "folder"])
@pytest.mark.parametrize("where", [".positions", ".positions/{}.json", ".positions/.{}.json.tmp"])
async def test_what_lies_where_positions_are_kept_gives_way(
    tmp_path: Path, plant: Callable[[Path], None], where: str
) -> None:
    put_file(tmp_path, "a.mp4")
    first = source_of(tmp_path)
    clip_id = (await take_all(first.deliveries()))["a.mp4"].clip.clip_id
    await first.close()
    at = tmp_path / "work" / where.format(clip_id)
    at.parent.mkdir(parents=True, exist_ok=True)
    plant(at)

    second = source_of(tmp_path)
    delivery = (await asyncio.wait_for(take_all(second.deliveries()), LIMIT_S))["a.mp4"]
    assert delivery.position.next_window == 0
    await asyncio.wait_for(second.settle(step(delivery, 0, 2)), LIMIT_S)
    assert FolderPositions(tmp_path).load(clip_id).next_window == 2
    await asyncio.wait_for(second.settle(done(delivery)), LIMIT_S)
    await second.close()
    assert (tmp_path / "done/a.mp4").is_file()


@pytest.mark.parametrize(
    "kept", [b"[" * 4000, b"1" * 4000, b'{"next_window": 1e999, "plan_hash": null, "suspicion": 0}', b"x" * 10**6]
)
def test_a_position_of_any_bytes_counts_as_none(tmp_path: Path, kept: bytes) -> None:
    (tmp_path / "work/.positions").mkdir(parents=True)
    (tmp_path / "work/.positions/c.json").write_bytes(kept)

    assert FolderPositions(tmp_path).load("c").next_window == 0


@pytest.mark.parametrize("plant", [plant_link, plant_pipe, Path.mkdir], ids=["link", "pipe", "folder"])
async def test_a_lock_that_is_no_file_is_passed_over(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    put_file(tmp_path, "a.mp4")
    put_file(tmp_path, "work/evil/b.mp4")
    plant(tmp_path / "work/evil/.lock")

    assert "a.mp4" in await finish(source_of(tmp_path))


async def test_a_pipe_called_like_a_reason_is_not_waited_for(tmp_path: Path) -> None:
    put_file(tmp_path, "a.mp4")
    (tmp_path / "failed").mkdir()
    plant_pipe(tmp_path / "failed/a.mp4.reason.json")
    plant_pipe(tmp_path / "failed/.a.1.mp4.reason.json.tmp")

    assert await reject_all(source_of(tmp_path)) == [Reason.CORRUPT]
    assert tree(tmp_path / "failed") == ["a.1.mp4", "a.1.mp4.reason.json", "a.mp4.reason.json"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EXDEV, errno.ELOOP, errno.ENAMETOOLONG])
async def test_what_only_a_person_can_let_be_claimed_is_left_and_the_rest_goes_on(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put_file(tmp_path, "a/clip.mp4")
    put_file(tmp_path, "b.mp4")
    source = source_of(tmp_path)
    claim = source._claims.claim

    def refused(parts: Any) -> bool:
        if parts[0] == "a":
            raise OSError(number, os.strerror(number))
        return claim(parts)

    monkeypatch.setattr(source._claims, "claim", refused)

    assert await finish(source) == ["b.mp4"]
    assert caplog.text.count("a/clip.mp4 can't be claimed") == 1


async def test_what_nobody_foresaw_is_refused_with_its_stack_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put_file(tmp_path, "a.mp4")
    put_file(tmp_path, "b.mp4")
    source = source_of(tmp_path)
    load = source._positions.load
    asked: list[str] = []

    def unforeseen(clip_id: str) -> Any:
        asked.append(clip_id)
        if len(asked) == 1:
            raise RecursionError("nobody foresaw it")
        return load(clip_id)

    monkeypatch.setattr(source._positions, "load", unforeseen)

    assert await reject_all(source) == [Reason.MALFORMED, Reason.CORRUPT]
    assert [record.exc_info is not None for record in caplog.records if record.levelno == logging.ERROR] == [True]


def test_a_file_is_written_whole_over_whatever_lies_beside_it(tmp_path: Path) -> None:
    plant_pipe(tmp_path / ".a.tmp")
    (tmp_path / ".b.tmp/inner").mkdir(parents=True)
    folder = os.open(tmp_path, os.O_RDONLY)
    for name in "ab":
        write_whole(folder, name, b"new")
    os.close(folder)

    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"new"] * 2
