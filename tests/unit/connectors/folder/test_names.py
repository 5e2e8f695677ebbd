"""Names of clips and of folders that get in each other's way, and names that are odd: each file keeps its own."""

import asyncio
import json
import logging
from pathlib import Path

import pytest

from connectors.contract import ClipPosition
from connectors.folder.sink import name_beneath
from connectors.messages.codec import caption_to_json, rejection_to_json
from tests.contract.folder_harness import put_file
from tests.contract.progress import PLAN, caption, done, name_of, rejected, step, take, take_all
from tests.contract.sink_contract import delivery_of
from tests.unit.connectors.folder.inboxes import finish_all, sink_in, source_of, tree

LIMIT_S = 30.0  # a test that stands still fails


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


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


@pytest.mark.parametrize("name", ["d/" * 2500 + "a.mp4", ("d" * 190 + "/") * 20 + "a.mp4"])
async def test_the_files_of_a_deep_clip_have_a_path_that_readers_can_open(tmp_path: Path, name: str) -> None:
    delivery = delivery_of(name)
    where = name_beneath(delivery.clip)

    assert len(where) == 2
    assert where != name_beneath(delivery_of("e/" + name).clip)


def test_hostile_names_stay_apart() -> None:
    names = {name_beneath(delivery_of(name).clip) for name in ("../x", "..", "a/\0b", "a/\0c", "x" * 300, "x" * 301)}

    assert len(names) == 6


async def test_a_link_in_the_sink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "captions/inbox").mkdir(parents=True)
    (tmp_path / "captions/inbox/sub").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "captions/inbox/a.mp4.jsonl").symlink_to(tmp_path / "elsewhere/a")

    for name in ("sub/a.mp4", "a.mp4"):
        delivery = delivery_of(name)
        await sink_in(tmp_path).write(step(delivery, 0, 2, last=True))
        assert await sink_in(tmp_path).position(delivery.clip) == ClipPosition(2, PLAN)
    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_a_clip_named_like_a_folder_of_captions(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mp4.jsonl/b.mp4"):
        delivery = delivery_of(name)
        await sink_in(tmp_path).write(step(delivery, 0, 2, last=True))
        assert await sink_in(tmp_path).position(delivery.clip) == ClipPosition(2, PLAN)
