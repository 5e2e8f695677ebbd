"""Positions beside the claims: they fit one clip alone, go with it, and wait for a full disk."""

import asyncio
import logging
import os
from pathlib import Path

import pytest

from tests.contract.folder_harness import put_file
from tests.contract.progress import done, step, take_all
from tests.unit.connectors.folder.inboxes import full_disk, source_of


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


async def test_a_full_disk_moves_no_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    put_file(tmp_path, "a")
    source = source_of(tmp_path)
    delivery = (await take_all(source.deliveries()))["a"]
    with full_disk(10):
        settling = asyncio.create_task(source.settle(step(delivery, 0, 1)))
        async with asyncio.timeout(60):
            while not source.waiting_for:
                await asyncio.sleep(0.01)
        assert not settling.done()
        assert os.listdir(tmp_path / "work/.positions") == []
        assert source.waiting_for == "the disk: File too large"
    await settling
    await source.close()

    source = source_of(tmp_path)
    assert (await take_all(source.deliveries()))["a"].position.next_window == 1
    await source.close()
