"""Lines, cues, headers and topics of several questions a window."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from connectors.contract import Caption, Clip, ClipPosition, Delivery, Progress
from connectors.folder.settings import FolderSinkSettings
from connectors.folder.sink import FolderSink
from connectors.kafka.cluster import check_outputs
from connectors.kafka.encoder import records_of
from connectors.kafka.settings import KafkaSinkSettings
from connectors.media.bytes import BytesMedia
from connectors.messages.caption_lines import parse_lines
from connectors.messages.cloudevents import caption_headers
from connectors.messages.codec import caption_to_json
from connectors.messages.webvtt import Shown, document
from connectors.questions import Questions
from tests.unit.connectors.messages.test_schema import CAPTION

ASKED = Questions({"inbox": {"caption": None, "alert": "/said/0"}})
CLIP = Clip(CAPTION.clip_id, "inbox", BytesMedia("a.mp4", b"x"), 0)


def answers(windows: int, names: tuple[str, ...] = ("caption", "alert")) -> list[Caption]:
    return [
        replace(
            CAPTION,
            caption_id=f"{name}-{index}",
            window=replace(CAPTION.window, index=index),
            text=f"{name} of {index}",
            prompt=name,
            data={"said": [f"data of {index}"]} if name == "alert" else None,
        )
        for index in range(windows)
        for name in names
    ]


def progress(windows: int, *, last: bool = False) -> Progress:
    return Progress(Delivery(CLIP), answers(windows), windows, CAPTION.plan_hash, last)


def folder_sink(path: Path, **keys: str) -> FolderSink:
    settings = FolderSinkSettings(path=path, **keys)
    settings.know(ASKED)
    return FolderSink(settings)


async def test_lines_hold_all_answers_and_cues_those_of_one_question(tmp_path: Path) -> None:
    for prompt, text in ((None, "caption of 1"), ("caption", "caption of 1"), ("alert", "data of 1")):
        keys = {} if prompt is None else {"vtt_prompt": prompt}
        folder = tmp_path / str(prompt)
        await folder_sink(folder, **keys).write(progress(2, last=True))

        lines = (folder / "inbox" / "a.mp4.jsonl").read_bytes().splitlines()
        track = (folder / "inbox" / "a.mp4.vtt").read_text()
        assert len(lines) == 4
        assert track.count("-->") == 2
        assert text in track
        assert await folder_sink(folder, **keys).position(CLIP) == ClipPosition(2, CAPTION.plan_hash)
        assert (folder / "inbox" / "a.mp4.vtt").read_text() == track


async def test_a_window_of_which_an_answer_is_missing_is_cut_off_and_done_again(tmp_path: Path) -> None:
    """However much of a write came to the disk, no window is there in part or twice; most is cut about the ends."""
    await folder_sink(tmp_path).write(progress(3))
    file = tmp_path / "inbox" / "a.mp4.jsonl"
    whole = file.read_bytes()

    ends = [at for at, byte in enumerate(whole) if byte == ord("\n")]
    cuts = {*range(0, len(whole), 97), *(at + by for at in ends for by in range(-3, 4))} & {*range(len(whole))}
    for kept in sorted(cuts):
        file.write_bytes(whole[:kept])
        sink = folder_sink(tmp_path)
        position = await sink.position(CLIP)
        durable = whole[:kept].count(b"\n") // 2
        assert position == ClipPosition(durable, CAPTION.plan_hash if durable else None)
        if kept % 97:
            continue
        more = Progress(Delivery(CLIP), answers(3)[2 * durable :], 3, CAPTION.plan_hash)
        await sink.write(more)
        assert file.read_bytes() == whole


async def test_the_captions_of_the_last_windows_are_read_back(tmp_path: Path) -> None:
    await folder_sink(tmp_path).write(progress(30))

    before = (await folder_sink(tmp_path).position(CLIP)).before

    assert [one.caption_id for one in before] == [one.caption_id for one in answers(30)[2 * 14 :]]


def test_the_same_question_twice_about_a_window_is_no_line_of_ours() -> None:
    first, second, *_ = answers(1)
    lines = b"".join(caption_to_json(one) + b"\n" for one in (first, second, second))

    assert [one.prompt for one in parse_lines(lines).captions] == ["caption", "alert"]


def test_a_pointer_to_nowhere_is_a_cue_without_a_text() -> None:
    shown = Shown(Questions({"inbox": {"": "/a/b~1c/1"}}))
    for data, text in (
        ({"a": {"b/c": [0, "here"]}}, "here"),
        ({"a": {"b/c": [0, {"x": 1}]}}, '{"x": 1}'),
        ({"a": {"b/c": [0]}}, ""),
        ({"a": 7}, ""),
        (None, ""),
    ):
        (caption,) = shown.of([replace(CAPTION, data=data)])
        assert caption.text == text
        assert document([caption]).count("-->") == 1


def test_records_say_which_question_they_answer_and_topics_go_by_it() -> None:
    settings = KafkaSinkSettings(bootstrap_servers="b:1", topic="captions.{source}.{prompt}")
    settings.know(ASKED)

    records = records_of(progress(2), settings)

    assert [record.topic for record in records] == ["captions.inbox.caption", "captions.inbox.alert"] * 2
    assert [dict(record.headers)["captiond_prompt"] for record in records] == [b"caption", b"alert"] * 2
    assert {record.key for record in records} == {CAPTION.clip_id.encode()}
    assert settings.topics_for("inbox") == {"captions.inbox.caption", "captions.inbox.alert"}
    (headers,) = caption_headers([CAPTION])
    assert "captiond_prompt" not in dict(headers)


def test_the_topics_of_every_question_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = KafkaSinkSettings(bootstrap_servers="b:1", topic="captions.{prompt}")
    settings.know(ASKED)
    looked: list[set[str]] = []
    monkeypatch.setattr("connectors.kafka.cluster.check_topics", lambda _, topics, *__, **___: looked.append(topics))

    check_outputs(settings, ["inbox"])

    assert looked[0] == {"captions.caption", "captions.alert"}


def test_what_does_not_fit_the_questions_is_refused() -> None:
    by_question = KafkaSinkSettings(bootstrap_servers="b:1", topic="captions.{prompt}")
    with pytest.raises(ValueError, match="source inbox asks a question without a name"):
        by_question.know(Questions({"inbox": {"": None}}))
    with pytest.raises(ValueError, match="no source asks a question of the name 'alarm'"):
        FolderSinkSettings(path="x", vtt_prompt="alarm").know(ASKED)
    with pytest.raises(ValidationError, match="only places in it"):
        KafkaSinkSettings(bootstrap_servers="b:1", topic="captions.{question}")
