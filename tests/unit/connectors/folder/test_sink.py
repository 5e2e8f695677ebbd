"""Caption files: valid after every write, whatever stops it."""

import asyncio
import json
import logging
import os
from pathlib import Path

import pytest

from connectors.contract import ClipPosition, Delivery
from connectors.files import durable as durable_file
from tests.contract.folder_harness import read_files
from tests.contract.progress import PLAN, caption, rejected, step
from tests.contract.sink_contract import delivery_of
from tests.unit.connectors.folder.inboxes import full_disk, sink_in


async def write_windows(folder: Path, delivery: Delivery, count: int, *, last: bool = False) -> Path:
    """Write some windows, one by one, and return the path of the lines."""
    sink = sink_in(folder)
    for index in range(count):
        await sink.write(step(delivery, index, index + 1, last=last and index == count - 1))
    return folder / "captions" / "inbox" / f"{delivery.clip.media.name}.jsonl"


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def indices(folder: Path, delivery: Delivery) -> list[int]:
    return [caption.window.index for caption in read_files(folder / "captions", delivery.clip)[0]]


async def test_the_files_lie_where_the_clip_lay(tmp_path: Path) -> None:
    await write_windows(tmp_path, delivery_of("a/b c.mp4"), 1)

    assert files_in(tmp_path) == ["captions/inbox/a/b c.mp4.jsonl", "captions/inbox/a/b c.mp4.vtt"]


async def test_whole_lines_are_the_position(tmp_path: Path) -> None:
    """Wherever a write was cut, the lines before the cut are kept, the rest goes, and both files are valid."""
    delivery = delivery_of("a.mp4")
    lines = await write_windows(tmp_path, delivery, 3)
    whole = lines.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for cut in [0, 1, 100, *(end + off for end in ends for off in (-1, 0, 1) if end + off <= len(whole))]:
        lines.write_bytes(whole[:cut])

        position = await sink_in(tmp_path).position(delivery.clip)

        kept = sum(end <= cut for end in ends)
        assert position == (ClipPosition(kept, PLAN) if kept else ClipPosition())
        if kept:
            assert indices(tmp_path, delivery) == list(range(kept))
        sink = sink_in(tmp_path)
        await sink.write(step(delivery, kept, 4, last=True))
        assert indices(tmp_path, delivery) == [0, 1, 2, 3]


@pytest.mark.parametrize("shown", [b"", b"WEBVTT\n\n00:00", b"WEBVTT\n" + b"x" * 5000, None])
async def test_recovery_makes_the_track_anew(tmp_path: Path, shown: bytes | None) -> None:
    delivery = delivery_of("a.mp4")
    track = (await write_windows(tmp_path, delivery, 2)).with_suffix(".vtt")
    if shown is None:
        track.unlink()
    else:
        track.write_bytes(shown)

    assert await sink_in(tmp_path).position(delivery.clip) == ClipPosition(2, PLAN)
    assert indices(tmp_path, delivery) == [0, 1]


async def test_the_track_follows_when_another_hand_touched_it(tmp_path: Path) -> None:
    delivery, sink = delivery_of("a.mp4"), sink_in(tmp_path)
    await sink.write(step(delivery, 0, 2))
    (tmp_path / "captions/inbox/a.mp4.vtt").unlink()
    await sink.write(step(delivery, 2, 3, last=True))

    assert indices(tmp_path, delivery) == [0, 1, 2]


@pytest.mark.parametrize("damage", [b"{}\n", b"\n", b"\xff\xfe\n", b'{"type":"captiond.clip.v1"\n', b"null\n"])
async def test_lines_after_one_that_cannot_be_read_are_done_again(tmp_path: Path, damage: bytes) -> None:
    delivery = delivery_of("a.mp4")
    lines = await write_windows(tmp_path, delivery, 3)
    kept = lines.read_bytes().splitlines(keepends=True)
    lines.write_bytes(kept[0] + damage + kept[2])

    assert await sink_in(tmp_path).position(delivery.clip) == ClipPosition(1, PLAN)
    await sink_in(tmp_path).write(step(delivery, 1, 3, last=True))
    assert indices(tmp_path, delivery) == [0, 1, 2]


@pytest.mark.parametrize(("lost", "position"), [(0, ClipPosition()), (1, ClipPosition(1, PLAN))])
async def test_windows_after_a_hole_are_done_again(tmp_path: Path, lost: int, position: ClipPosition) -> None:
    delivery = delivery_of("a.mp4")
    lines = await write_windows(tmp_path, delivery, 3)
    kept = lines.read_bytes().splitlines(keepends=True)
    del kept[lost]
    lines.write_bytes(b"".join(kept))
    sink = sink_in(tmp_path)

    assert await sink.position(delivery.clip) == position
    await sink.write(step(delivery, position.next_window, 3, last=True))
    assert indices(tmp_path, delivery) == [0, 1, 2]


async def test_a_rejection_is_the_last_line_and_no_window(tmp_path: Path) -> None:
    delivery = delivery_of("a.mp4")
    lines = await write_windows(tmp_path, delivery, 2)
    await sink_in(tmp_path).write(rejected(delivery, next_window=2))

    last = json.loads(lines.read_bytes().splitlines()[-1])
    assert (last["type"], last["reason"], last["next_window"]) == ("captiond.clip.v1", "corrupt", 2)
    assert last["clip_name"] == "a.mp4"
    assert await sink_in(tmp_path).position(delivery.clip) == ClipPosition(2, PLAN)


async def test_a_clip_rejected_again_has_one_rejection(tmp_path: Path) -> None:
    delivery = delivery_of("a.mp4")
    await write_windows(tmp_path, delivery, 2)
    for _ in range(2):
        await sink_in(tmp_path).write(rejected(delivery, next_window=2))

    captions, rejections = read_files(tmp_path / "captions", delivery.clip)
    assert (len(captions), len(rejections)) == (2, 1)


@pytest.mark.parametrize("more", [0, 1])
async def test_a_clip_that_succeeds_after_all_has_no_rejection(tmp_path: Path, more: int) -> None:
    delivery = delivery_of("a.mp4")
    await write_windows(tmp_path, delivery, 2)
    await sink_in(tmp_path).write(rejected(delivery, next_window=2))
    await sink_in(tmp_path).write(step(delivery, 2, 2 + more, last=True))

    captions, rejections = read_files(tmp_path / "captions", delivery.clip)
    assert (len(captions), len(rejections)) == (2 + more, 0)


async def test_a_clip_rejected_at_once_has_both_files(tmp_path: Path) -> None:
    delivery = delivery_of("a.mp4")
    await sink_in(tmp_path).write(rejected(delivery))

    captions, rejections = read_files(tmp_path / "captions", delivery.clip)
    assert (len(captions), len(rejections)) == (0, 1)
    assert (tmp_path / "captions/inbox/a.mp4.vtt").read_text() == "WEBVTT\n"


async def test_another_plan_replaces_the_files(tmp_path: Path) -> None:
    delivery = delivery_of("a.mp4")
    await write_windows(tmp_path, delivery, 3)
    sink = sink_in(tmp_path)
    assert await sink.position(delivery.clip) == ClipPosition(3, PLAN)
    await sink.write(step(delivery, 0, 1, plan_hash="newer"))

    captions, _ = read_files(tmp_path / "captions", delivery.clip)
    assert [(c.window.index, c.plan_hash) for c in captions] == [(0, "newer")]
    assert await sink_in(tmp_path).position(delivery.clip) == ClipPosition(1, "newer")


async def test_captions_of_an_earlier_clip_of_the_same_name_are_kept(tmp_path: Path) -> None:
    first, second = delivery_of("a.mp4", "first"), delivery_of("a.mp4", "second")
    await write_windows(tmp_path, first, 2, last=True)
    assert await sink_in(tmp_path).position(second.clip) == ClipPosition(0, None)
    await write_windows(tmp_path, second, 3, last=True)

    names = sorted(path.name for path in (tmp_path / "captions/inbox").iterdir())
    assert len(names) == 4
    assert indices(tmp_path, second) == [0, 1, 2]
    assert await sink_in(tmp_path).position(first.clip) == ClipPosition(2, PLAN)
    assert await sink_in(tmp_path).position(second.clip) == ClipPosition(3, PLAN)


async def test_two_clips_of_one_name_at_once_lose_nothing(tmp_path: Path) -> None:
    sink = sink_in(tmp_path)
    deliveries = [delivery_of("a.mp4", clip_id) for clip_id in ("first", "second", "third")]
    for index in range(3):
        for delivery in deliveries:
            await sink.write(step(delivery, index, index + 1, last=index == 2))

    for delivery in deliveries:
        assert await sink_in(tmp_path).position(delivery.clip) == ClipPosition(3, PLAN)


HOSTILE = ["../../x", "/etc/passwd", "a/../../../x", "..", ".", "", "/", "a/\0b", "x" * 300, "\u65e5" * 90, "a//b"]


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_name_leads_out(tmp_path: Path, name: str) -> None:
    delivery = delivery_of(name)
    sink = sink_in(tmp_path)
    await sink.write(step(delivery, 0, 1, last=True))

    written = files_in(tmp_path)
    assert len(written) == 2
    assert all(path.startswith("captions/inbox/") for path in written)
    assert indices(tmp_path, delivery) == [0]


@pytest.mark.parametrize("room_bytes", [0, 10, 300, 700])
async def test_a_full_disk_leaves_no_half_line_and_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, room_bytes: int
) -> None:
    monkeypatch.setattr(durable_file, "_FIRST_PAUSE_S", 0.01)
    caplog.set_level(logging.INFO, "connectors.files.durable")
    delivery, sink = delivery_of("a.mp4"), sink_in(tmp_path)
    await sink.write(step(delivery, 0, 1))
    lines = tmp_path / "captions/inbox/a.mp4.jsonl"
    size_bytes = lines.stat().st_size
    with full_disk(size_bytes + room_bytes):
        writing = asyncio.create_task(sink.write(step(delivery, 1, 4, last=True)))
        while not sink.waiting_for:
            await asyncio.sleep(0.01)
        assert not writing.done()
        assert lines.stat().st_size == size_bytes
        assert indices(tmp_path, delivery) == [0]
        assert sink.waiting_for == "the disk: File too large"
    await writing

    assert indices(tmp_path, delivery) == [0, 1, 2, 3]
    assert sink.waiting_for == ""
    assert [record.getMessage() for record in caplog.records] == [
        "Writing captions waits for the disk: File too large.",
        "Writing captions goes on.",
    ]
    assert caplog.records[0].clip_id == "id-a.mp4"  # type: ignore[attr-defined]


async def test_a_sink_that_is_removed_is_made_again(tmp_path: Path) -> None:
    delivery, sink = delivery_of("a.mp4"), sink_in(tmp_path)
    await sink.write(step(delivery, 0, 1))
    (tmp_path / "captions").rename(tmp_path / "gone")
    await sink.write(step(delivery, 1, 2))

    assert [c.window.index for c in read_files(tmp_path / "captions", delivery.clip)[0]] == [1]


async def test_ten_thousand_windows_cost_little_each(tmp_path: Path) -> None:
    """A write appends: its cost does not grow with what was written before."""
    delivery, sink = delivery_of("a.mp4"), sink_in(tmp_path)
    await sink.write(step(delivery, 0, 5000))
    before = os.times().user
    for index in range(5000, 5020):
        await sink.write(step(delivery, index, index + 1))

    assert os.times().user - before < 0.5
    assert caption(delivery, 5019) == read_files(tmp_path / "captions", delivery.clip)[0][-1]


async def test_what_becomes_durable_together_costs_a_sync_each_and_one_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write_windows(tmp_path, delivery_of("a.mp4"), 1)
    synced, sync = list[str](), os.fsync

    def counted(descriptor: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    await write_windows(tmp_path, delivery_of("b.mp4"), 1, last=True)

    assert synced == ["b.mp4.jsonl", "b.mp4.vtt", "inbox"]
