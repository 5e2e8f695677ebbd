"""The folder source: ends of clips, links, and names of every kind."""

import json
import os
from pathlib import Path

import pytest

from connectors.at_least_once import AtLeastOnceRoute
from connectors.contract import Delivery
from connectors.errors import Poison, Reason
from connectors.folder.route import FolderRoute
from connectors.folder.settings import FolderSinkSettings
from connectors.folder.sink import FolderSink
from connectors.memory import MemorySink
from tests.contract.folder_harness import put_file
from tests.contract.progress import PLAN, done, rejected, step, take_all
from tests.unit.connectors.folder.inboxes import finish_all, kept_lock_files, source_of, tree, write_now


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
