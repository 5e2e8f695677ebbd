"""Log records that carry what a stranger wrote: no format lets it control a terminal, forge a line or tell a secret."""

import json
import logging
import re
import sys

import pytest

from daemon.service.logs import JournalFormatter, JsonFormatter, TextFormatter

FORGED = "x\n12:00:00 ERROR   All clips were deleted.\r\x1b[1A\x1b]52;c;cm0=\x07\x9b2J\u202e\u2028"
RECORD_LINE = re.compile(r"\d\d:\d\d:\d\d [A-Z]+")
FORMATTERS = {"text": TextFormatter(), "json": JsonFormatter(), "journal": JournalFormatter()}
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def record(message: str, *values: object, error: Exception | None = None, **fields: object) -> logging.LogRecord:
    caught = None
    if error is not None:
        try:
            raise error
        except Exception:
            caught = sys.exc_info()
    made = logging.LogRecord("captiond.test", logging.ERROR, __file__, 1, message, values, caught)
    made.__dict__.update(fields)
    return made


@pytest.mark.parametrize("form", FORMATTERS)
def test_nothing_that_controls_a_terminal_comes_through(form: str) -> None:
    error = ValueError(FORGED)
    error.add_note(FORGED)

    said = FORMATTERS[form].format(record("Rejected %s.", FORGED, error=error, clip_id=FORGED, reason=FORGED))

    assert UNSAFE.search(said) is None


@pytest.mark.parametrize("where", ["message", "field", "exception", "lines"])
def test_a_line_of_text_can_not_be_forged(where: str) -> None:
    made = {
        "message": lambda: record("Rejected %s.", FORGED),
        "field": lambda: record("Rejected.", clip_id=FORGED),
        "exception": lambda: record("Rejected.", error=ValueError(FORGED)),
        "lines": lambda: record("It stands here:\n%s", FORGED),
    }[where]()

    lines = FORMATTERS["text"].format(made).splitlines()

    assert [bool(RECORD_LINE.match(line)) for line in lines] == [True] + [False] * (len(lines) - 1)
    assert len(lines) == 1 or where in ("exception", "lines")


def test_a_json_line_is_one_line_that_means_what_was_logged() -> None:
    said = FORMATTERS["json"].format(record("Rejected %s.", FORGED, clip_id=FORGED))

    assert len(said.splitlines()) == 1
    assert json.loads(said).items() >= {"message": f"Rejected {FORGED}.", "clip_id": FORGED}.items()


def test_a_field_can_not_pass_for_two() -> None:
    said = FORMATTERS["text"].format(record("Rejected.", clip_id='a] [source=other "b"', reason="empty"))

    assert said.endswith(r'[clip_id="a] [source=other \"b\"" reason=empty]')


@pytest.mark.parametrize("form", FORMATTERS)
def test_secrets_of_urls_are_masked(form: str) -> None:
    url = "https://user:hunter2@store/clip.mp4?X-Amz-Signature=hunter3"

    said = FORMATTERS[form].format(record("Fetching %s.", url, error=OSError(f"can't open {url}")))

    assert "hunter" not in said
    assert "********@store/clip.mp4?********" in said
