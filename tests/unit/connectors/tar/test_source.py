"""A tar archive as a source: hostile members, archives that can't be read, names that come twice."""

import asyncio
import io
import logging
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.contract import Delivery
from connectors.errors import ConfigurationError, Poison, Reason
from connectors.media.tar_member import TarMember
from connectors.tar.settings import TarSourceSettings
from connectors.tar.source import TarSource
from tests.contract.progress import done, nothing_comes, take, take_all
from tests.contract.tar_harness import append
from tests.unit.connectors.media.test_tar_member import HOSTILE


def source_of(archive: Path, **more: Any) -> TarSource:
    once = more.pop("once", True)
    settings = TarSourceSettings(path=archive, settle_s=0.0, scan_s=0.05, **more)
    return TarSource("films", settings, archive.parent / "state", max_clip_bytes=10_000, once=once)


def reason(delivery: Delivery) -> str:
    with pytest.raises(Poison) as refused:
        delivery.clip.media.open()
    return refused.value.reason


@pytest.mark.parametrize("case", HOSTILE)
async def test_a_hostile_member_is_a_clip_that_is_refused(tmp_path: Path, case: str) -> None:
    make, why = HOSTILE[case]
    append(tmp_path / "a.tar", "before.mp4")
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        make(tar)
    append(tmp_path / "a.tar", "after.mp4")
    source = source_of(tmp_path / "a.tar")

    found = [delivery async for delivery in source.deliveries()]

    assert [delivery.clip.media.name for delivery in found[::2]] == ["before.mp4", "after.mp4"]
    assert reason(found[1]) == why
    await source.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "state"]  # nothing was extracted


async def test_an_archive_that_is_cut_ends_with_its_reason(tmp_path: Path) -> None:
    append(tmp_path / "a.tar", "one.mp4", b"x" * 700)
    append(tmp_path / "a.tar", "two.mp4", b"y" * 5000)
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:4096])
    source = source_of(tmp_path / "a.tar")

    found = await take_all(source.deliveries())

    assert list(found) == ["one.mp4", "two.mp4", "a.tar"]
    assert [reason(found[name]) for name in ("two.mp4", "a.tar")] == ["truncated", "corrupt"]
    for delivery in found.values():
        await source.settle(done(delivery))
    await source.close()
    again = source_of(tmp_path / "a.tar")
    assert await take_all(again.deliveries()) == {}
    await again.close()


async def test_a_compressed_archive_is_refused_by_name(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.add(Path(__file__), "one.py")
    source = source_of(tmp_path / "a.tar")

    found = await take_all(source.deliveries())

    assert reason(found["a.tar"]) == "forbidden_format"
    await source.close()


async def test_a_pattern_chooses_members(tmp_path: Path) -> None:
    for name in ("a/one.mp4", "a/notes.txt", "two.mp4"):
        append(tmp_path / "a.tar", name)
    source = source_of(tmp_path / "a.tar", pattern="a/*.mp4")

    assert set(await take_all(source.deliveries())) == {"a/one.mp4"}
    await source.close()


async def test_two_members_of_one_name_come_one_after_the_other(tmp_path: Path) -> None:
    append(tmp_path / "a.tar", "one.mp4", b"first")
    append(tmp_path / "a.tar", "one.mp4", b"second, and longer")
    source = source_of(tmp_path / "a.tar")
    deliveries = source.deliveries()
    first = (await take(deliveries, 1))["one.mp4"]
    waiting = asyncio.create_task(take(deliveries, 1))
    await asyncio.sleep(0.05)
    assert not waiting.done()

    await source.settle(done(first))

    second = (await waiting)["one.mp4"]
    assert second.clip.clip_id != first.clip.clip_id
    assert second.clip.media.size_bytes > first.clip.media.size_bytes
    await source.close()


async def test_members_that_changed_come_again_and_others_do_not(tmp_path: Path) -> None:
    def write(mtimes: dict[str, int]) -> None:
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            for name, mtime in mtimes.items():
                member = tarfile.TarInfo(name)
                member.size, member.mtime = 4, mtime
                tar.addfile(member, io.BytesIO(b"clip"))

    write({"one.mp4": 1, "two.mp4": 1})
    source = source_of(tmp_path / "a.tar")
    for delivery in (await take_all(source.deliveries())).values():
        await source.settle(done(delivery))
    await source.close()

    write({"one.mp4": 1, "two.mp4": 2})
    again = source_of(tmp_path / "a.tar")

    assert set(await take_all(again.deliveries())) == {"two.mp4"}
    await again.close()


async def test_an_archive_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    source = source_of(tmp_path / "a.tar", once=False)
    waiting = asyncio.create_task(take(source.deliveries(), 1))
    await asyncio.sleep(0.1)

    append(tmp_path / "a.tar", "one.mp4")

    assert set(await waiting) == {"one.mp4"}
    await source.close()


async def test_one_run_needs_its_archive(tmp_path: Path) -> None:
    source = source_of(tmp_path / "a.tar")

    with pytest.raises(ConfigurationError, match=r"sources\.films\.path: there is no"):
        await take_all(source.deliveries())

    await source.close()


async def test_an_archive_is_read_when_it_stands_still(tmp_path: Path) -> None:
    settings = TarSourceSettings(path=tmp_path / "a.tar", settle_s=0.3, scan_s=0.05)
    with tarfile.open(tmp_path / "a.tar", "w"):
        pass
    source = TarSource("films", settings, tmp_path / "state")
    deliveries = source.deliveries()

    assert await nothing_comes(deliveries)
    await source.close()


async def test_two_daemons_do_not_share_a_journal(tmp_path: Path) -> None:
    append(tmp_path / "a.tar", "one.mp4")
    first, second = source_of(tmp_path / "a.tar"), source_of(tmp_path / "a.tar")
    await take_all(first.deliveries())

    with pytest.raises(ConfigurationError, match=r"sources\.films: another program writes"):
        await take_all(second.deliveries())

    await first.close()
    await second.close()


async def test_a_member_of_2500_parts_is_a_clip(tmp_path: Path) -> None:
    name = "/".join(["d"] * 2500 + ["one.mp4"])
    append(tmp_path / "a.tar", name, b"x" * 700)
    source = source_of(tmp_path / "a.tar")

    assert list(await take_all(source.deliveries())) == [name]
    await source.close()


async def test_what_nobody_foresaw_in_an_archive_is_refused_with_its_stack_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    append(tmp_path / "a.tar", "one.mp4", b"x" * 700)
    source = source_of(tmp_path / "a.tar")

    def unforeseen(*_: object, **__: object) -> Iterator[TarMember]:
        raise struct.error("nobody foresaw it")
        yield

    monkeypatch.setattr("connectors.tar.source.tar_members", unforeseen)

    (delivery,) = (await take_all(source.deliveries())).values()
    with pytest.raises(Poison) as refused:
        delivery.clip.media.open()
    assert (refused.value.reason, refused.value.origin) == (Reason.MALFORMED, "source")
    assert [record.exc_info is not None for record in caplog.records if record.levelno == logging.ERROR] == [True]
    await source.close()
