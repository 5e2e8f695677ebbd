"""The records of a prompt file, the question that each asks, and their form in the output."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.contract import Delivery
from connectors.errors import ConfigurationError

MAX_FILE_BYTES = 256 * 2**20  # of prompts; a million questions of 200 characters have as many
_KEY = "prompt_file"

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """A record of a prompt file, and what is asked: the ``text`` that goes to the model about ``media``."""

    number: int
    record: Record
    media: str
    text: str


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return a prompt file's records in order: a list of them (``.json``), or one a line (``.jsonl``, blanks skipped).

    Raises:
        ConfigurationError: it can't be read, or is not what its suffix says.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigurationError(f"{path} has more than {MAX_FILE_BYTES:,} bytes", path=_KEY)
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}", path=_KEY) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8: {error.reason} at byte {error.start}", path=_KEY) from error
    if path.suffix == ".jsonl":
        numbered = [(f"line {at}", line) for at, line in enumerate(text.split("\n"), 1) if line.strip()]
        records = [(where, _parse(line, f"{where} of {path}")) for where, line in numbered]
    elif path.suffix == ".json":
        whole = _parse(text, str(path))
        if not isinstance(whole, list):
            raise ConfigurationError(f"{path} holds no list of records", path=_KEY)
        records = [(f"record {at}", record) for at, record in enumerate(whole, 1)]
    else:
        raise ConfigurationError(f"{path} is neither .jsonl nor .json", path=_KEY)
    for where, record in records:
        if not isinstance(record, dict):
            raise ConfigurationError(f"{where} of {path} is no object", path=_KEY)
    return [record for _, record in records]


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{where} is not JSON: {error}", path=_KEY) from error


def render_records(records: Sequence[Record], *, as_list: bool) -> bytes:
    """Return records as NeVA writes them: a list with an indent of 2, or a record a line."""
    if as_list:
        return json.dumps(records, indent=2, ensure_ascii=False).encode()
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def number_of(delivery: Delivery) -> int:
    """Return the number of the record that a delivery of a prompt file is about."""
    if not isinstance(delivery.handle, int):
        raise TypeError(f"{delivery!r} is not a prompt file's")
    return delivery.handle
