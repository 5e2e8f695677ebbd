"""WebVTT files: what a browser's parser would make of them."""

import html
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract import WindowSpan
from connectors.messages.safe_text import clean_text
from connectors.messages.webvtt import block, cue, document
from tests.contract.progress import caption
from tests.contract.sink_contract import delivery_of

DELIVERY = delivery_of("a.mp4")
TIMINGS = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})")


def parse(text: str) -> list[tuple[int, int, str]]:
    """Return start, end and text of each cue, by the blocks of the WebVTT parser's algorithm."""
    lines = text.split("\n")
    assert lines[0] == "WEBVTT"
    assert lines[1] == ""
    cues = []
    at = 2
    while at < len(lines):
        if lines[at] == "":
            at += 1
            continue
        timings = TIMINGS.fullmatch(lines[at])
        assert timings is not None, lines[at]
        numbers = [int(number) for number in timings.groups()]
        start, end = (((h * 60 + m) * 60 + s) * 1000 + ms for h, m, s, ms in (numbers[:4], numbers[4:]))
        at += 1
        payload = []
        while at < len(lines) and lines[at] != "":
            assert "-->" not in lines[at]
            assert not re.search(r"<|>|&(?!(amp|lt|gt);)", lines[at])
            payload.append(html.unescape(lines[at]))
            at += 1
        cues.append((start, end, "\n".join(payload)))
    return cues


def test_a_cue() -> None:
    said = caption(DELIVERY, 0, text="Tom & Jerry <run>\r\n\r\n  --> home")
    said = replace(said, window=WindowSpan(0, 3_723_004_999_999, 360_000_000_000_000))

    assert cue(said) == "01:02:03.004 --> 100:00:00.000\nTom &amp; Jerry &lt;run&gt;\n--&gt; home\n"


def test_a_cue_stands_where_a_player_shows_the_picture() -> None:
    late = replace(caption(DELIVERY, 0, "a door"), media_start_ns=5_000_000_000)

    assert cue(late).startswith("00:00:05.000 --> ")
    assert parse(document([late]))[0][0] == 5000


def test_a_file_grows_by_blocks() -> None:
    captions = [caption(DELIVERY, index) for index in range(3)]

    assert document([]) == "WEBVTT\n"
    assert document(captions) == document(captions[:1]) + block(captions[1]) + block(captions[2])


def test_a_window_below_a_millisecond_has_a_cue_that_ends_after_it_starts() -> None:
    short = replace(caption(DELIVERY, 0), window=WindowSpan(0, 5_000_000, 5_000_400))

    assert cue(short).startswith("00:00:00.005 --> 00:00:00.006\n")


@pytest.mark.parametrize("text", ["", "\n\n", " \t "])
def test_a_window_without_a_text_has_a_cue(text: str) -> None:
    assert parse(document([caption(DELIVERY, 0, text=text), caption(DELIVERY, 1, text="b")])) == [
        (0, 1000, ""),
        (1000, 2000, "b"),
    ]


@given(st.lists(st.text(max_size=40), max_size=5))
def test_any_texts_are_cues(texts: list[str]) -> None:
    shown = document([caption(DELIVERY, index, text=text) for index, text in enumerate(texts)])

    cues = parse(shown)

    assert len(cues) == len(texts)
    for (_, _, seen), text in zip(cues, texts, strict=True):
        lines = [line.strip() for line in clean_text(text).split("\n")]
        assert seen == "\n".join(line for line in lines if line)
