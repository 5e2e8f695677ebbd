"""Prompt files as a source and outputs as a sink: what a crash leaves, and what names may reach."""

import asyncio
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from connectors.contract import Caption, CaptionStatus, Delivery, Progress, Rejection, WindowSpan
from connectors.errors import ConfigurationError, Poison
from connectors.prompt_file.answer_journal import AnswerJournal
from connectors.prompt_file.media_shelf import MediaShelf
from connectors.prompt_file.records import Question, read_records
from connectors.prompt_file.sink import PromptFileSink
from connectors.prompt_file.source import PromptFileSource


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"video": "a.mp4", "text": "Q"}\n\n{"video": "b.mp4", "text": "R"}\n'),
        ("a.jsonl", '\ufeff{"video": "a.mp4", "text": "Q"}\r\n{"video": "b.mp4", "text": "R"}'),
        ("a.json", '[{"video": "a.mp4", "text": "Q"},\n {"video": "b.mp4", "text": "R"}]'),
    ],
)
def test_both_forms(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)

    assert [record["video"] for record in read_records(tmp_path / name)] == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "{}\n{broken\n", "line 2 of .* is not JSON"),
        ("a.jsonl", "{}\n[1]\n", "line 2 of .* is no object"),
        ("a.json", "{}", "holds no list of records"),
        ("a.json", "[3]", "record 1 of .* is no object"),
        ("a.txt", "{}", r"neither \.jsonl nor \.json"),
    ],
)
def test_what_is_no_prompt_file_is_said(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)

    with pytest.raises(ConfigurationError, match=message):
        read_records(tmp_path / name)


def test_a_file_that_is_not_there_and_one_of_bytes(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be read"):
        read_records(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read_records(tmp_path / "a.jsonl")


def read_media(shelf: MediaShelf, name: str) -> bytes:
    with os.fdopen(shelf.media(name).open(), "rb") as file:
        return file.read()


def test_a_folder_of_media(tmp_path: Path) -> None:
    base = tmp_path / "clips"
    (base / "day").mkdir(parents=True)
    (base / "day" / "a.mp4").write_bytes(b"clip")
    (base / "linked.mp4").symlink_to(base / "day" / "a.mp4")
    (tmp_path / "secret").write_bytes(b"secret")
    shelf = MediaShelf(base, 100)
    shelf.open()

    assert (
        read_media(shelf, "day/a.mp4") == read_media(shelf, "./day/a.mp4") == read_media(shelf, "linked.mp4") == b"clip"
    )
    for name, reason in {"../secret": "forbidden_path", "/etc/hostname": "forbidden_path", "b.mp4": "vanished"}.items():
        with pytest.raises(Poison) as fault:
            shelf.media(name).open()
        assert fault.value.reason == reason


def test_a_tar_of_media_is_read_member_by_member(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "clips.tar", "w") as archive:
        for name in ("./day/a.mp4", "../hostile.mp4"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"clip"))
    shelf = MediaShelf(tmp_path / "clips.tar", 100)
    shelf.open()

    assert read_media(shelf, "day/a.mp4") == b"clip"
    for name in ("b.mp4", "../hostile.mp4"):
        with pytest.raises(Poison):
            shelf.media(name).open()
    shelf.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips.tar"]


def test_neither_folder_nor_tar_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "junk.tar").write_bytes(b"x" * 2000)
    for name in ("nothing", "junk.tar"):
        with pytest.raises(ConfigurationError, match=r"inference\.media_base_path"):
            MediaShelf(tmp_path / name, 100).open()


def caption(delivery: Delivery, text: str) -> Caption:
    span = WindowSpan(0, 0, 10)
    return Caption("id", delivery.clip.clip_id, "p", span, text, CaptionStatus.SUCCESS, "m", "h", "plan")


def done(delivery: Delivery, text: str) -> Progress:
    return Progress(delivery, [caption(delivery, text)], 1, "plan", last=True)


class Bench:
    """A job of a few questions about clips that are not read."""

    def __init__(self, folder: Path, count: int = 3, job: str = "job", suffix: str = ".jsonl") -> None:
        self.output = folder / f"out{suffix}"
        self.journal = AnswerJournal(folder / f"out{suffix}.journal", job)
        self.journal.open()
        shelf = MediaShelf(folder, 100)
        questions = [Question(n, {"question_id": n}, f"{n}.mp4", f"Q{n}") for n in range(count)]
        self.source = PromptFileSource("p", questions, shelf, self.journal)
        self.sink = PromptFileSink(self.output, self.journal, count, self.compose)

    @staticmethod
    def compose(number: int, said: Caption | None, rejection: Rejection | None) -> dict[str, Any]:
        return {"question_id": number, "answer": said.text if said else None, "error": bool(rejection)}

    async def deliveries(self) -> list[Delivery]:
        return [delivery async for delivery in self.source.deliveries()]

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text().splitlines()]


async def test_answers_in_any_order_come_out_in_the_prompts(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first, second, third = await bench.deliveries()

    await asyncio.gather(bench.sink.write(done(third, "c")), bench.sink.write(done(first, "a")))
    assert not bench.sink.is_complete
    await bench.sink.write(done(second, "b"))

    assert [record["answer"] for record in bench.records()] == ["a", "b", "c"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert [delivery.clip.attributes["prompt"] for delivery in (first, second, third)] == ["Q0", "Q1", "Q2"]


async def test_answers_that_come_all_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path, 30)
    deliveries = await bench.deliveries()

    await asyncio.gather(*(bench.sink.write(done(delivery, "x")) for delivery in deliveries))

    assert len(bench.records()) == 30
    assert "waits for the disk" not in caplog.text


async def test_a_list_is_written_with_an_indent(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 1, suffix=".json")
    (only,) = await bench.deliveries()

    await bench.sink.write(done(only, "déjà"))

    assert bench.output.read_text().startswith('[\n  {\n    "question_id": 0,\n    "answer": "déjà"')


def cut_line(journal: Path) -> None:
    """Leave at the end what a crash in the middle of a write leaves."""
    with journal.open("ab") as file:
        file.write(b'{"answer": 0, "record": {"ques')


async def test_a_job_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    before = Bench(tmp_path)
    await before.sink.write(done((await before.deliveries())[1], "b"))
    before.journal.close()
    cut_line(tmp_path / "out.jsonl.journal")

    after = Bench(tmp_path)
    left = await after.deliveries()
    for delivery in left:
        await after.sink.write(done(delivery, "new"))

    assert [delivery.handle for delivery in left] == [0, 2]
    assert [record["answer"] for record in after.records()] == ["new", "b", "new"]


async def test_another_job_begins_anew(tmp_path: Path) -> None:
    before = Bench(tmp_path)
    await before.sink.write(done((await before.deliveries())[1], "b"))
    before.journal.close()

    assert len(await Bench(tmp_path, job="another").deliveries()) == 3


async def test_a_crash_before_the_output_leaves_nothing_to_ask(tmp_path: Path) -> None:
    before = Bench(tmp_path)
    for delivery in await before.deliveries():
        await before.journal.answer(delivery.handle, {"answer": delivery.handle})
    before.journal.close()

    after = Bench(tmp_path)
    assert await after.deliveries() == []
    await after.sink.finish()

    assert [record["answer"] for record in after.records()] == [0, 1, 2]


async def test_a_failure_is_in_the_output_and_tried_again_by_the_next_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 2)
    first, second = await bench.deliveries()
    fault = Poison("vanished", "0.mp4 is not there", origin="source")

    await bench.sink.write(Progress.rejected(first, fault, next_window=0, plan_hash="plan"))
    bench.journal.close()
    again = Bench(tmp_path, 2)
    assert [delivery.handle for delivery in await again.deliveries()] == [0, 1]
    await again.sink.write(Progress.rejected(first, fault, next_window=0, plan_hash="plan"))
    await again.sink.write(done(second, "b"))

    assert [record["error"] for record in again.records()] == [True, False]
    assert again.sink.failed == 1


async def test_a_clip_that_killed_an_engine_is_a_suspect_in_the_next_run(tmp_path: Path) -> None:
    before = Bench(tmp_path)
    await before.source.quarantine((await before.deliveries())[1])
    before.journal.close()

    assert [delivery.position.quarantine for delivery in await Bench(tmp_path).deliveries()] == [0, 1, 0]


async def test_a_drain_ends_the_deliveries(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    seen = []
    async for delivery in bench.source.deliveries():
        seen.append(delivery.handle)
        await bench.source.drain()

    assert seen == [0]


def test_two_programs_never_write_one_output(tmp_path: Path) -> None:
    Bench(tmp_path)

    with pytest.raises(ConfigurationError, match="another program writes"):
        Bench(tmp_path)
