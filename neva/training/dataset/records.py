r"""A record of LLaVA-style training data: a conversation about videos or images, or of text alone.

    {"id": "1", "video": "a.mp4", "conversations": [{"from": "human", "value": "<video>\nWhat happens?"},
                                                    {"from": "gpt", "value": "A dog runs."}]}

A record about an image has ``image`` in the place of ``video``. ``system`` replaces the template's system text. The
``label`` of a turn holds SteerLM's attributes of its answer. Real files hold odd records too. What NeMo learns from
such a record is learned here; one that NeMo stops at, or can learn nothing from, is an :class:`OddRecord`:

* an answer that comes first is left out, and so is what follows the last answer, or begins with an empty question;
* media that no token stands for is not shown, nor is media beyond the tokens;
* a token in a record that names no media is text like any other;
* NVGPT-like templates and ``plain`` go by the place of a turn where its role is unknown to them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from neva.conversations import IMAGE, VIDEO, Turn
from neva.token_span import MediaType, media_token

_ASKS, _ANSWERS = frozenset({"human", "user"}), frozenset({"gpt", "assistant"})
_BY_PLACE = frozenset({"nvgpt", "nv_steerlm", "nv_dpo", "yi_34b", "plain", "interleaved"})
_LABELLED = frozenset({"nvgpt", "nv_steerlm", "nv_dpo"})
_TAG = re.compile(r'<img src="([^"]+)"[^>]*>')


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """A conversation whose turns all have answers.

    ``media`` is a name in the folder, None for text alone. ``further_media`` are those of its second media token and
    the ones behind it. ``changed`` says what was left out of the record; None where it is whole.
    """

    turns: tuple[Turn, ...]
    media: str | None = None
    system: str | None = None
    further_media: tuple[str, ...] = ()
    changed: str | None = None

    @property
    def clips(self) -> tuple[str, ...]:
        """The names of the videos or images, in the order of their tokens."""
        return () if self.media is None else (self.media, *self.further_media)


@dataclass(frozen=True, slots=True)
class RecordRules:
    """The settings that a record is read by; ``steerlm`` records name images in the text, as ``<img src="a.png">``."""

    media_type: MediaType
    template: str = "v1"
    steerlm: bool = False


class OddRecord(ValueError):
    """A record that nothing is learned from; its text is the reason, the same for all records alike."""


def read_record(raw: Any, rules: RecordRules) -> TrainingRecord:
    """Return the record that the JSON value ``raw`` holds.

    Raises:
        OddRecord: nothing can be learned from it.
    """
    if not isinstance(raw, dict):
        raise OddRecord("it is no JSON object")
    system = raw.get("system")
    if system is not None:
        _text(system, "its system text is no text")
    tagged: list[str] = []
    said = raw.get("conversations")
    turns: tuple[Turn, ...]
    if rules.template == "interleaved" and isinstance(said, str):
        turns, changed = (Turn("", _text(said, "it holds no list of conversations")),), None
    else:
        found = _said(said, rules, tagged)
        answered_first = bool(found) and _role(found[0].role) == "answers"
        turns, changed = _turns(found[answered_first:], rules)
        if answered_first and changed is None:
            changed = "an answer that comes first is left out"
    return _with_media(TrainingRecord(turns, None, system, (), changed), raw, tagged, rules)


def _text(value: Any, otherwise: str) -> str:
    """Return a string that can be encoded; :class:`OddRecord` with ``otherwise`` as its reason where it is none."""
    if not isinstance(value, str):
        raise OddRecord(otherwise)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise OddRecord("it holds a lone surrogate, which is no character") from error
    return value


@dataclass(frozen=True, slots=True)
class _Said:
    role: Any
    text: str
    label: Any


def _said(said: Any, rules: RecordRules, tagged: list[str]) -> list[_Said]:
    """Return the turns as they stand; the images that tags in SteerLM's text name are added to ``tagged``."""
    if not isinstance(said, list):
        raise OddRecord("it holds no list of conversations")
    if rules.template == "plain" and len(said) != 2:
        raise OddRecord("the template plain takes one question and its answer")
    found = []
    for turn in said:
        if not isinstance(turn, dict):
            raise OddRecord("a turn is no JSON object")
        text = _text(turn.get("value"), "the value of a turn is no text")
        if rules.steerlm and "<img" in text:
            tagged += [source.rpartition("/")[2] for source in _TAG.findall(text)]
            text = _TAG.sub(IMAGE, text)
        found.append(_Said(turn.get("from"), text, turn.get("label")))
    return found


def _role(role: Any) -> str | None:
    named = role.lower() if isinstance(role, str) else None
    return "asks" if named in _ASKS else "answers" if named in _ANSWERS else None


def _check_role(role: Any, wanted: str, rules: RecordRules) -> None:
    found = _role(role)
    if found is None and rules.template not in _BY_PLACE:
        raise OddRecord("a turn is from neither human nor gpt")
    if found is not None and found != wanted:
        raise OddRecord("questions and answers do not follow each other in turn")


def _turns(said: Sequence[_Said], rules: RecordRules) -> tuple[tuple[Turn, ...], str | None]:
    """Return the questions with their answers up to the last answer that is not empty, and what was left out."""
    for place, turn in enumerate(said):
        _check_role(turn.role, "answers" if place % 2 else "asks", rules)
    turns = []
    for asked, answered in _pairs(said):
        if not asked.text and rules.template != "plain":  # NeMo learns nothing from an empty question on
            break
        label = answered.label if rules.template in _LABELLED else None
        if label is not None:
            _text(label, "the label of an answer is no text")
        turns.append(Turn(asked.text, answered.text, label))
    while turns and not turns[-1].answer:
        turns.pop()
    if not turns:
        raise OddRecord("it holds no question with an answer")
    whole = 2 * len(turns) == len(said)
    return tuple(turns), None if whole else "what follows its last answer is left out"


def _pairs(said: Sequence[_Said]) -> Iterator[tuple[_Said, _Said]]:
    return (pair for place, pair in enumerate(pairwise(said)) if place % 2 == 0)


def _with_media(
    record: TrainingRecord, raw: Mapping[str, Any], tagged: list[str], rules: RecordRules
) -> TrainingRecord:
    """Return the record with the media that its tokens stand for."""
    names = _names(raw, tagged, rules)
    if not names:
        return _text_alone(record)
    plain, whole = rules.template == "plain", rules.template == "interleaved"
    questions = "".join(turn.answer or "" if whole else turn.question for turn in record.turns)
    own, other = media_token(rules.media_type), IMAGE if rules.media_type == "video" else VIDEO
    if not whole and any(token in (turn.answer or "") for turn in record.turns for token in (own, other)):
        raise OddRecord("an answer shows media")
    if own in questions and other in questions:
        raise OddRecord(f"it shows both {VIDEO} and {IMAGE}")
    shown = questions.count(own) or questions.count(other)
    if plain:
        shown = min(1, shown)  # the question becomes its token alone
        if not shown:
            raise OddRecord("it names media, and its question shows none, which the template plain needs")
    if shown > len(names):
        raise OddRecord("it shows more media than it names")
    changed = record.changed
    if shown < len(names) and not plain:
        changed = "media that no token stands for is not shown"
    if not shown:
        return replace(record, changed=changed)
    return replace(record, media=names[0], further_media=tuple(names[1:shown]), changed=changed)


def _text_alone(record: TrainingRecord) -> TrainingRecord:
    said = "".join(turn.question for turn in record.turns)
    if VIDEO not in said and IMAGE not in said:
        return record
    return replace(record, changed="its media token is text, because the record names no media")


def _names(raw: Mapping[str, Any], tagged: list[str], rules: RecordRules) -> list[str]:
    """Return the names of the record's media."""
    named = {kind: raw.get(kind) for kind in ("video", "image")}
    if tagged:
        named["image"] = tagged
    own: Any = named.pop(rules.media_type)
    if not own:
        if any(named.values()):
            raise OddRecord(f"it names media of the other kind than data.media_type, which is {rules.media_type}")
        return []
    names = own if isinstance(own, list) else [own]
    for name in names:
        if not _text(name, "the name of its media is no text"):
            raise OddRecord("the name of its media is empty")
    return names
