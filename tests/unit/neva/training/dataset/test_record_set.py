"""Files of records: what is learned from, where it stands, and what the log says of the others."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError
from neva.training.dataset.record_set import RecordSet, read_training_records
from neva.training.dataset.records import RecordRules
from tests.unit.neva.training.dataset.test_records import first_answer, said, talk

ODD: list[Any] = [
    None,
    [talk("Hello", "Hi.")],
    said({"from": "robot", "value": "a"}, {"from": "gpt", "value": "b"}),
    {"video": "a.mp4"},
    said({"from": "human", "value": 3}, {"from": "gpt", "value": "Hi."}),
    talk("<video><video>Why?", "So.", video="a.mp4"),
    {"conversations": []},
    {"conversations": []},
]


def write(folder: Path, *records: Any, name: str = "data.json") -> Path:
    path = folder / name
    text = "\n".join(map(json.dumps, records)) if path.suffix == ".jsonl" else json.dumps(records)
    path.write_text(text)
    return path


def read(*paths: Path, template: str = "v1", media_type: Any = "video") -> RecordSet:
    return read_training_records(paths, RecordRules(media_type, template))


def questions(records: RecordSet) -> list[str]:
    return [record.turns[0].question for record in records]


def test_odd_records_are_skipped_and_counted_once_by_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = [talk("Hello", "Hi."), first_answer(talk("<video>What?", "A dog.", video="a.mp4"))]
    path = write(tmp_path, good[0], *ODD, good[1])

    with caplog.at_level(logging.INFO):
        records = read(path)

    assert questions(records) == ["Hello", "<video>What?"]
    assert [records.place(number) for number in (0, 1)] == ["Record 1", "Record 10"]
    warnings = [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]
    assert len(warnings) == 7  # six reasons to skip, and one to change
    assert warnings[0].endswith(f"2 skipped: it is no JSON object; the first is record 2 of {path}.")
    assert any(f"no question with an answer; the first is record 8 of {path}." in line for line in warnings)
    assert "model.data.data_path: 2 records, 1 clips." in caplog.text
    caplog.clear()
    read_training_records([path], RecordRules("video"), told=False)
    assert not caplog.records


def test_what_is_learned_with_a_change_is_counted_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, talk("Hello", "Hi.", "And?"), talk("Bye", "Bye.", "And?"))

    assert questions(read(path)) == ["Hello", "Bye"]

    assert (
        f"2 learned from with a change: what follows its last answer is left out; the first is "
        f"record 1 of {path}." in caplog.text
    )


def test_lines_that_are_no_json_are_skipped_and_tags_name_images(tmp_path: Path) -> None:
    path = write(tmp_path, talk("Hello", "Hi."), talk('<img src="/x/a.png">What?', "A cat."), name="data.jsonl")
    path.write_text("nonsense\n\n" + path.read_text())

    records = read(path, template="nv_steerlm", media_type="image")

    assert [records[number].clips for number in range(2)] == [(), ("a.png",)]
    assert records.place(1) == "Record 3"  # empty lines are no records
    as_json = read(write(tmp_path, talk('<img src="/x/a.png">What?', "A cat.")), media_type="image")
    assert as_json[0].clips == ()


def test_several_files_are_numbered_through(tmp_path: Path) -> None:
    one = write(tmp_path, ODD[0], talk("<video>1", "a", video="a.mp4"), talk("2", "b"), name="one.json")
    two = write(tmp_path, talk("<video><video>3", "c", video=["b.mp4", "c.mp4"]), name="two.jsonl")

    records = read(one, two)

    assert (len(records), records.sizes, records.clip_count) == (3, (2, 1), 3)
    assert records.place(2) == f"Record 1 of {two}"
    assert [list(records.clips(number)) for number in range(3)] == [[0], [], [1, 2]]
    assert [records.record_of(clip) for clip in range(3)] == [0, 2, 2]
    assert records.media_digest == read(one, two).media_digest != read(two, one).media_digest
    with pytest.raises(IndexError):
        records[3]


@pytest.mark.parametrize(
    ("text", "says"),
    [("{}", "holds no list"), ("[", "is not JSON"), ("[]", "no record"), ("[1]", "1 skipped: it is no JSON object")],
)
def test_a_file_that_teaches_nothing_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "data.json").write_text(text)

    with pytest.raises(ConfigurationError, match=rf"model\.data\.data_path: .*data\.json.*{says}"):
        read(tmp_path / "data.json")
    with pytest.raises(ConfigurationError, match="No such file"):
        read(tmp_path / "gone.json")


def test_a_file_that_is_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, talk("Hello", "Hi."))
    records = read(path)
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))

    with pytest.raises(ConfigurationError, match="was changed while it was learned from"):
        records[0]
