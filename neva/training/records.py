r"""LLaVA-style training data: a JSON list of conversations about videos or images, or one a line.

    {"id": "1", "video": "a.mp4", "conversations": [{"from": "human", "value": "<video>\nWhat happens?"},
                                                    {"from": "gpt", "value": "A dog runs."}]}

A record about an image has ``image`` in the place of ``video``, and a record with neither is text alone. ``system``
replaces the template's system text. The ``label`` of a turn holds SteerLM's attributes of its answer.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError
from neva.conversations import IMAGE, VIDEO, Turn
from neva.token_span import MediaType

_KEY = "data.data_path"
_ASKS, _ANSWERS = frozenset({"human", "user"}), frozenset({"gpt", "assistant"})


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """A conversation whose turns all have answers. ``media`` is a name in the folder, None for text alone."""

    turns: tuple[Turn, ...]
    media: str | None = None
    system: str | None = None


def read_training_records(path: Path, media_type: MediaType) -> list[TrainingRecord]:
    """Return the file's records in order.

    Raises:
        ConfigurationError: the file can't be read, or a record is wrong; the message says which, and why.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = path.suffix == ".jsonl"
        whole = [json.loads(line) for line in text.split("\n") if line.strip()] if lines else json.loads(text)
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}", path=_KEY) from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not JSON: {error}", path=_KEY) from error
    if not isinstance(whole, list) or not whole:
        raise ConfigurationError(f"{path} holds no list of conversations", path=_KEY)
    return [_record(record, number, media_type) for number, record in enumerate(whole, 1)]


def _record(record: Any, number: int, media_type: MediaType) -> TrainingRecord:
    try:
        turns = _turns(record["conversations"])
        media = _media(record, media_type)
        system = record.get("system")
    except (KeyError, TypeError, AttributeError) as error:
        missing = f" {error}" if isinstance(error, KeyError) else ""
        raise ConfigurationError(f"record {number} is no conversation: it lacks{missing}", path=_KEY) from error
    except ValueError as error:
        raise ConfigurationError(f"record {number}: {error}", path=_KEY) from error
    shown = sum(turn.question.count(token) for turn in turns for token in (VIDEO, IMAGE))
    if shown != (media is not None):
        detail = f"it names {media or 'no media'} and shows {shown}: <{media_type}> must stand there once"
        raise ConfigurationError(f"record {number}: {detail}", path=_KEY)
    return TrainingRecord(turns, media, None if system is None else str(system))


def _turns(said: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """Return the questions with their answers; a label is that of the answer's turn."""
    if len(said) < 2 or len(said) % 2:
        raise ValueError("a conversation is questions and answers in turn")
    turns = []
    for asked, answered in zip(said[::2], said[1::2], strict=True):
        if str(asked["from"]).lower() not in _ASKS or str(answered["from"]).lower() not in _ANSWERS:
            raise ValueError(
                f"a question is from human and its answer from gpt, not {asked['from']}, {answered['from']}"
            )
        turns.append(Turn(str(asked["value"]), str(answered["value"]), answered.get("label")))
    return tuple(turns)


def _media(record: Mapping[str, Any], media_type: MediaType) -> str | None:
    named = [record[key] for key in ("video", "image") if record.get(key)]
    names = [name for one in named for name in (one if isinstance(one, list) else [one])]
    if len(names) > 1:
        raise ValueError("one video or image is shown in a conversation")
    if names and not record.get(media_type):
        raise ValueError(f"data.media_type is {media_type}, and the record names none")
    return str(names[0]) if names else None
