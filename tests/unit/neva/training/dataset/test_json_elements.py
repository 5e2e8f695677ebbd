"""The elements of a list, and of lines, with the places that they are read again from."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from neva.training.dataset import json_elements
from neva.training.dataset.json_elements import BROKEN, Element, read_elements, read_lines, read_list

VALUES: list[Any] = [{"a": 'ä€😀 \\ " ]'}, 12, -1.5e3, "text, ]", [[], {}], None, True, {"deep": [{"x": [1, 2]}]}, 345]


def again(text: bytes, elements: list[Element]) -> list[Any]:
    return [json.loads(text[one.offset : one.offset + one.length]) for one in elements]


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_list_in_pieces(monkeypatch: pytest.MonkeyPatch, piece: int, indent: int | None, ascii_only: bool) -> None:
    monkeypatch.setattr(json_elements, "_PIECE_BYTES", piece)
    text = b"\xef\xbb\xbf \n" + json.dumps(VALUES, indent=indent, ensure_ascii=ascii_only).encode() + b"\n"

    found = list(read_list(io.BytesIO(text)))

    assert [one.value for one in found] == VALUES
    assert again(text, found) == VALUES


@pytest.mark.parametrize("piece", [1, 100])
@pytest.mark.parametrize("text", ["", "{}", "[", "[1", "[1,]", "[1 2]", '["a]', "[1] 2", "[,1]", "7", "[nul]", "[1, 2"])
def test_what_is_no_list_is_refused(monkeypatch: pytest.MonkeyPatch, text: str, piece: int) -> None:
    monkeypatch.setattr(json_elements, "_PIECE_BYTES", piece)

    with pytest.raises(ValueError, match=r"no list|not JSON"):
        list(read_list(io.BytesIO(text.encode())))


def test_what_is_no_unicode_or_too_deep_is_refused() -> None:
    for text in (b'["\xff"]', b"[" * 200_000):
        with pytest.raises(ValueError, match=r"codec|nested too deeply"):
            list(read_list(io.BytesIO(text)))


def test_lines() -> None:
    text = b'\xef\xbb\xbf{"a": 1}\n\n  \r\n{"b": "\xc3\xa4"}\r\nnonsense\n[1'

    found = list(read_lines(io.BytesIO(text)))

    assert [one.value for one in found] == [{"a": 1}, {"b": "ä"}, BROKEN, BROKEN]
    assert again(text, found[:2]) == [{"a": 1}, {"b": "ä"}]


def test_the_suffix_says_which() -> None:
    assert [one.value for one in read_elements(Path("a.jsonl"), io.BytesIO(b"1\n2"))] == [1, 2]
    assert [one.value for one in read_elements(Path("a.json"), io.BytesIO(b"[1, 2]"))] == [1, 2]
