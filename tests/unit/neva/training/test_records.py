"""LLaVA-style JSON: what is read, and what is refused with the record's number."""

import json
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError
from neva.conversations import Turn
from neva.training.records import TrainingRecord, read_training_records


def talk(*said: str, **more: Any) -> dict[str, Any]:
    turns = [{"from": ("human", "gpt")[at % 2], "value": text} for at, text in enumerate(said)]
    return {"conversations": turns, **more}


def read(folder: Path, *records: Any, media_type: Any = "video") -> list[TrainingRecord]:
    path = folder / "data.json"
    path.write_text(json.dumps(records))
    return read_training_records(path, media_type)


def test_conversations_about_a_video_and_of_text_alone(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        talk("<video>\nWhat?", "A dog.", "Where?", "Here.", video="a.mp4", id="1", system="Be brief."),
        talk("Hello", "Hi."),
        talk("<image>\nWhat?", "A cat.", video=["b.mp4"]),  # LLaVA-Video writes <image> for videos
    )

    assert found == [
        TrainingRecord((Turn("<video>\nWhat?", "A dog."), Turn("Where?", "Here.")), "a.mp4", "Be brief."),
        TrainingRecord((Turn("Hello", "Hi."),)),
        TrainingRecord((Turn("<image>\nWhat?", "A cat."),), "b.mp4"),
    ]


def test_labels_are_those_of_the_answer(tmp_path: Path) -> None:
    record = talk("<image>Why?", "So.", image="a.png")
    record["conversations"][1]["label"] = "quality:9"

    (found,) = read(tmp_path, record, media_type="image")

    assert found.turns == (Turn("<image>Why?", "So.", "quality:9"),)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (talk("<video>Why?", video="a.mp4"), "questions and answers in turn"),
        ({"video": "a.mp4"}, "lacks 'conversations'"),
        (talk("Why?", "So.", video="a.mp4"), "names a.mp4 and shows 0: <video> must stand there once"),
        (talk("<video><video>Why?", "So.", video="a.mp4"), "shows 2"),
        (talk("<video>Why?", "So."), "names no media and shows 1"),
        (talk("<video>Why?", "So.", video=["a.mp4", "b.mp4"]), "one video or image is shown"),
        (talk("<image>Why?", "So.", image="a.png"), "media_type is video, and the record names none"),
        (
            {"conversations": [{"from": "gpt", "value": "a"}, {"from": "human", "value": "b"}]},
            "a question is from human",
        ),
        ("text", "is no conversation"),
    ],
)
def test_a_record_that_is_wrong_is_named(tmp_path: Path, record: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=r"data\.data_path: record 2") as refused:
        read(tmp_path, talk("Hello", "Hi."), record)

    assert says in str(refused.value)


def test_one_record_a_line(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text(json.dumps(talk("Hello", "Hi.")) + "\n\n" + json.dumps(talk("Bye", "Bye.")))

    found = read_training_records(tmp_path / "data.jsonl", "video")

    assert [record.turns[0].question for record in found] == ["Hello", "Bye"]


@pytest.mark.parametrize(("text", "says"), [("{}", "no list"), ("[]", "no list"), ("[", "is not JSON")])
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "data.json").write_text(text)

    with pytest.raises(ConfigurationError, match=says):
        read_training_records(tmp_path / "data.json", "video")
