"""The index: what a line says is held to its types, and the daemon follows a file that grows or is written anew."""

import json
from pathlib import Path

import pytest

from connectors.stream.index import INDEX, Absence, Line, Link, Mend, Segment, decode_line, encode_line
from connectors.stream.index_reader import IndexReader

SEGMENT = Segment("0001.m4s", "format-1.mp4", 10, 20, "sender", 0, 10, 99, 21, 25)
LINES: list[Line] = [SEGMENT, Absence(20, 30, "away"), Link(5, False, "refused"), Mend(7, "wrapped", -3)]


@pytest.mark.parametrize("line", LINES, ids=lambda line: type(line).__name__)
def test_a_line_is_read_back(line: Line) -> None:
    assert decode_line(encode_line(line).rstrip()) == line


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../../etc/passwd"},
        {"file": "/etc/passwd"},
        {"format": "a/b"},
        {"file": ""},
        {"start_ns": "10"},
        {"start_ns": True},
        {"size_bytes": 1.5},
        {"key_ns": "x"},
        {"clock": "mine"},
        {"line": "other"},
        {"more": 1},
    ],
    ids=lambda change: "-".join(f"{key}" for key in change),
)
def test_a_line_of_other_types_says_nothing(change: dict[str, object]) -> None:
    fields = {**json.loads(encode_line(SEGMENT)), **change}

    assert decode_line(json.dumps(fields).encode()) is None


@pytest.mark.parametrize("reason", ["rtsp://viewer:secret@door/", "x" * 65, "two words"])
def test_a_reason_is_a_word(reason: str) -> None:
    assert decode_line(encode_line(Link(1, False, reason))) is None


def test_the_reader_takes_what_was_added_and_waits_for_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / INDEX
    reader = IndexReader(path)
    assert not reader.read()
    path.write_bytes(encode_line(SEGMENT) + encode_line(LINES[1])[:-5])
    assert reader.read()
    assert reader.contents.latest_ns == 20

    with path.open("ab") as file:
        file.write(encode_line(LINES[1])[-5:])

    assert reader.read()
    assert reader.contents.latest_ns == 30
    assert not reader.read()


def test_a_file_that_took_the_old_ones_place_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / INDEX
    path.write_bytes(encode_line(SEGMENT) + encode_line(Absence(20, 30, "away")))
    reader = IndexReader(path)
    reader.read()
    other = tmp_path / "other"
    other.write_bytes(
        encode_line(SEGMENT) + encode_line(Absence(20, 30, "away")) + encode_line(Absence(30, 31, "away"))
    )
    other.replace(path)

    assert reader.read()
    assert reader.contents.segments == [SEGMENT]
    assert reader.contents.missing == [Absence(20, 31, "away")]
