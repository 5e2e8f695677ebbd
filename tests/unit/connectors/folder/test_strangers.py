"""Files where captions go that captiond has not written: they get another name, and nothing of them is lost."""

import errno
import logging
import os
import stat
from pathlib import Path

import pytest

from connectors.files import durable
from connectors.files.durable import rename_to_free_name
from connectors.folder.settings import FolderSinkSettings
from connectors.folder.sink import FolderSink
from tests.contract.folder_harness import read_files
from tests.contract.progress import PLAN, step
from tests.contract.sink_contract import delivery_of
from tests.unit.connectors.folder.inboxes import second_user, shared_folder

STRANGERS = {
    ".vtt": [b"WEBVTT\n\n00:00.000 --> 00:02.000\nHand-made\n", b"\xef\xbb\xbfWEBVTT\n", b"no track at all"],
    ".jsonl": [b'{"my": "own"}\n', b"half a line", b'{"my": "own"}\n' * 3, b"\0\0\0", b"{}"],
}


def sink_in(folder: Path) -> FolderSink:
    return FolderSink(FolderSinkSettings(path=folder))


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(("ending", "content"), [(end, one) for end, found in STRANGERS.items() for one in found])
@pytest.mark.parametrize("asked", [True, False])
async def test_what_somebody_else_wrote_is_kept(
    tmp_path: Path, ending: str, content: bytes, asked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / f"inbox/a.mp4{ending}").write_bytes(content)
    (tmp_path / f"inbox/a.mp4.1{ending}").write_bytes(b"an older one")
    delivery, sink = delivery_of("a.mp4"), sink_in(tmp_path)
    if asked:
        assert (await sink.position(delivery.clip)).next_window == 0

    await sink.write(step(delivery, 0, 2))
    await sink_in(tmp_path).write(step(delivery, 2, 3, last=True))

    assert [caption.window.index for caption in read_files(tmp_path, delivery.clip)[0]] == [0, 1, 2]
    assert (tmp_path / f"inbox/a.mp4.2{ending}").read_bytes() == content
    assert (tmp_path / f"inbox/a.mp4.1{ending}").read_bytes() == b"an older one"
    said = f"a.mp4{ending} is not captiond's: it is called a.mp4.2{ending} now, for captions have its name."
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [said]


async def test_a_track_that_somebody_put_in_the_place_of_ours_is_kept(tmp_path: Path) -> None:
    delivery = delivery_of("a.mp4")
    await sink_in(tmp_path).write(step(delivery, 0, 2))
    (tmp_path / "inbox/a.mp4.vtt").write_bytes(STRANGERS[".vtt"][0])

    assert (await sink_in(tmp_path).position(delivery.clip)).next_window == 2

    assert len(read_files(tmp_path, delivery.clip)[0]) == 2
    assert (tmp_path / "inbox/a.mp4.1.vtt").read_bytes() == STRANGERS[".vtt"][0]


async def test_another_plan_makes_no_stranger_of_our_own_track(tmp_path: Path) -> None:
    delivery, sink = delivery_of("a.mp4"), sink_in(tmp_path)
    await sink.write(step(delivery, 0, 3))
    await sink.write(step(delivery, 0, 1, plan_hash="newer"))

    assert sorted(path.name for path in (tmp_path / "inbox").iterdir()) == ["a.mp4.jsonl", "a.mp4.vtt"]


async def test_a_name_that_an_earlier_clip_needs_is_given_up(tmp_path: Path) -> None:
    """Somebody's file lies where the captions of an earlier clip are set aside."""
    first, second = delivery_of("a.mp4", "first"), delivery_of("a.mp4", "second")
    await sink_in(tmp_path).write(step(first, 0, 1, last=True))
    kept = contents(tmp_path)
    await sink_in(tmp_path).write(step(second, 0, 1, last=True))
    (aside,) = [path for path in (tmp_path / "inbox").glob("*.jsonl") if path.name != "a.mp4.jsonl"]
    for path in (tmp_path / "inbox").iterdir():
        path.unlink()
    await sink_in(tmp_path).write(step(first, 0, 1, last=True))
    aside.write_bytes(b"mine")
    aside.with_suffix(".vtt").write_bytes(b"mine too")

    await sink_in(tmp_path).write(step(second, 0, 1, last=True))

    assert {b"mine", b"mine too", *kept} <= set(contents(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="a second user is made by root")
@pytest.mark.parametrize("mode", [0o644, 0o600])
async def test_another_users_file_that_may_not_be_renamed_stays_and_captions_have_another_name(mode: int) -> None:
    with shared_folder() as folder:
        folder.chmod(0o1777)
        (folder / "inbox").mkdir()
        (folder / "inbox").chmod(0o1777)
        (folder / "inbox/a.mp4.vtt").write_bytes(b"theirs")
        (folder / "inbox/a.mp4.vtt").chmod(mode)
        delivery = delivery_of("a.mp4")
        with second_user():
            for at in range(2):
                await sink_in(folder).write(step(delivery, at, at + 1, last=at == 1))

        assert (folder / "inbox/a.mp4.vtt").read_bytes() == b"theirs"
        (lines,) = (folder / "inbox").glob("*.jsonl")
        assert lines.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("name", ["a.mp4.jsonl", "a.mp4.vtt"])
async def test_a_pipe_is_neither_waited_for_nor_written_to(tmp_path: Path, name: str) -> None:
    (tmp_path / "inbox").mkdir()
    os.mkfifo(tmp_path / "inbox" / name)
    delivery = delivery_of("a.mp4")

    await sink_in(tmp_path).write(step(delivery, 0, 2, last=True))

    assert stat.S_ISFIFO((tmp_path / "inbox" / name).stat().st_mode)
    assert (await sink_in(tmp_path).position(delivery.clip)).plan_hash == PLAN


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_where_the_system_has_no_rename_that_replaces_nothing_a_second_name_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    class NoFlag:
        def renameat2(self, *_: object) -> int:
            durable.ctypes.set_errno(number)
            return -1

    monkeypatch.setattr(durable, "_libc", NoFlag())
    (tmp_path / "a").write_bytes(b"ours")
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "folder").mkdir()
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(FileExistsError):
            rename_to_free_name(folder, "a", folder, "theirs")
        with pytest.raises(FileExistsError):
            rename_to_free_name(folder, "folder", folder, "theirs")
        with pytest.raises(FileNotFoundError):
            rename_to_free_name(folder, "gone", folder, "b")
        rename_to_free_name(folder, "a", folder, "b")
        rename_to_free_name(folder, "folder", folder, "folder2")
    finally:
        os.close(folder)

    assert sorted(os.listdir(tmp_path)) == ["b", "folder2", "theirs"]
    assert (tmp_path / "b").read_bytes() == b"ours"
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
