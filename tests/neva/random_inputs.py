"""Random inputs for NeMo and captiond alike: texts, conversations, clips, answers, schedules; and a tokenizer."""

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neva.conversations import Turn

MARKS = tuple(f"<extra_id_{number}>" for number in range(8))
_WORDS = (
    "What",
    "happens",
    "in",
    "this",
    "video",
    "A dog",
    "a",
    "tiger",
    "runs",
    "data",
    "extra",
    "it is",
    "seventeen",
)
_SIGNS = (
    " ",
    " ",
    " ",
    "\n",
    ", ",
    ". ",
    "? ",
    "  ",
    "\t",
    "1",
    "42",
    "é",
    "日本",
    "🙂",
    "ﬁ",
    "¡",
    "'s",
    "-",
    '"',
    "[",
    "]",
)
_LABELS = ("quality:4,toxicity:0", "quality:9,toxicity:0,humor:1,creativity:2", "quality:0")


def text(rng: random.Random, most: int = 8) -> str:
    """Return a text, at times with white space around it; never empty."""
    said = "".join(rng.choice(_WORDS) + rng.choice(_SIGNS) for _ in range(rng.randint(1, most)))
    around = ("", "", " ", "\n", "  ", "\t")
    return rng.choice(around) + said.strip() + rng.choice(around)


@dataclass(frozen=True)
class Talk:
    """A conversation of a training file. ``media`` says whether it is about a clip, ``system`` is its system text."""

    turns: tuple[Turn, ...]
    media: bool
    system: str | None = None

    def as_record(self, first: str, second: str, media_type: str) -> dict[str, Any]:
        """Return it as a training file has it."""
        said = []
        for turn in self.turns:
            label = {} if turn.label is None else {"label": turn.label}
            said += [{"from": first, "value": turn.question}, {"from": second, "value": turn.answer, **label}]
        record: dict[str, Any] = {"id": "1", "conversations": said}
        if self.media:
            record[media_type] = "a"
        return record if self.system is None else {**record, "system": self.system}


def talk(rng: random.Random, media_type: str, *, turns: int = 4, labels: bool = False, system: bool = False) -> Talk:
    """Return a conversation, most of them about a clip, some with labels or a system text."""
    media, said = rng.random() < 0.85, []
    for number in range(rng.randint(1, turns)):
        question = text(rng)
        if media and number == 0:
            token = f"<{media_type}>" + rng.choice(("", "\n", " ", " \n"))
            question = rng.choice((token + question, question + token, f"{question} {token} {text(rng)}"))
        answer = text(rng, 12)
        said.append(Turn(question, answer, rng.choice(_LABELS) if labels and rng.random() < 0.5 else None))
    spoken = text(rng) + rng.choice(("", "\n", "\n\n")) if system and rng.random() < 0.5 else None
    return Talk(tuple(said), media, spoken)


def sentencepiece_model(path: Path, kind: str = "bpe") -> Path:
    """Train a SentencePiece model as Llama's are, and add NeVA's marks as NeMo's own script for it does."""
    from sentencepiece import SentencePieceTrainer
    from transformers.convert_slow_tokenizer import import_protobuf

    rng, model = random.Random(0), io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([text(rng, 20) for _ in range(2000)]),
        model_writer=model,
        vocab_size=600,
        model_type=kind,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    proto = import_protobuf().ModelProto()
    proto.ParseFromString(model.getvalue())
    for mark in MARKS:
        proto.pieces.add(piece=mark, score=0.0, type=4)
    path.write_bytes(proto.SerializeToString())
    return path


def choose(rng: random.Random, among: Sequence[Any]) -> Any:
    """Return one of ``among``."""
    return among[rng.randrange(len(among))]
