"""Conversations as token ids and targets, and their order: everything a batch is made of but its seed is data.

A conversation is written whole and encoded whole, so its tokens are those that the model sees when it is asked. What
is learned are the tokens that begin inside an answer; the media token becomes the span of its frames.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from connectors.errors import Poison, Reason, Transient
from neva.conversations import IMAGE, VIDEO, Segment, own_tokens, segments
from neva.token_span import marked
from neva.training.media import TrainingMedia
from neva.training.records import TrainingRecord
from neva.training.tower_features import FeatureCache

log = logging.getLogger(__name__)

IGNORED = -100  # a target that is not asked for, as torch's cross-entropy has it
Batch = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class ConversationEncoder:
    """Encodes conversations of ``template`` for one tokenizer; media become ``span_tokens`` times ``image_token``."""

    tokenizer: Any
    template: str
    image_token: str
    span_tokens: int
    longest: int
    use_im_start_end: bool = False
    model_type: str = ""

    def encode(self, record: TrainingRecord) -> tuple[list[int], list[int]]:
        """Return ids and targets. An answer that passes the context is cut, as in NeVA; a span never is.

        Raises:
            Poison: reason ``over_context``; the frames pass the context.
        """
        text, learned = "", []
        for piece in segments(self.template, record.turns, record.system):
            written = self._written(piece)
            if piece.learned:
                learned.append((len(text), len(text) + len(written)))
            text += written
        done = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        image_id = self.tokenizer.convert_tokens_to_ids(self.image_token)
        ids, targets = [], []
        for token_id, (start, end) in zip(done["input_ids"], done["offset_mapping"], strict=True):
            if token_id == image_id:
                ids += [image_id] * self.span_tokens
                targets += [IGNORED] * self.span_tokens
                continue
            is_answer = any(a <= start < b and end > start for a, b in learned)
            ids.append(token_id)
            targets.append(token_id if is_answer else IGNORED)
        if ids[self.longest :].count(image_id):
            detail = f"{ids.count(image_id)} tokens of frames pass the context of {self.longest}: show fewer frames"
            raise Poison(Reason.OVER_CONTEXT, detail, origin="prompt")
        return ids[: self.longest], targets[: self.longest]

    def _written(self, piece: Segment) -> str:
        ends = {"bos": self.tokenizer.bos_token or "", "eos": self.tokenizer.eos_token or ""}
        text = own_tokens(self.template, piece.text, **ends)
        for token in (VIDEO, IMAGE):
            if self.use_im_start_end and token in text:
                text = marked(text, self.model_type, "video" if token == VIDEO else "image")
        return text.replace(VIDEO, self.image_token).replace(IMAGE, self.image_token)


class TrainingSet(Dataset[dict[str, Any]]):  # type: ignore[misc]
    """Records as samples: ``ids``, ``targets``, and what is seen, as ``pixels`` or, with a cache, as ``features``.

    A record whose media can't be read, or whose frames pass the context, teaches nothing; ``unread`` counts it.
    """

    def __init__(
        self,
        records: Sequence[TrainingRecord],
        encoder: ConversationEncoder,
        media: TrainingMedia,
        cache: FeatureCache | None = None,
    ) -> None:
        self.records, self._encoder, self.media, self.cache = records, encoder, media, cache

    def __len__(self) -> int:
        """How many records there are."""
        return len(self.records)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return one sample."""
        record = self.records[number]
        try:
            ids, targets = self._encoder.encode(record)
        except Poison as fault:
            log.warning("Record %d is not learned from: %s.", number + 1, fault.detail)
            return self._nothing()
        sample = {"ids": ids, "targets": targets, "unread": 0}
        if record.media is None:
            return sample
        seen = self.cache.read(number) if self.cache is not None else self.try_pixels(number)
        if seen is None:
            return self._nothing()
        return sample | {"features" if self.cache is not None else "pixels": seen}

    def _nothing(self) -> dict[str, Any]:
        return {"ids": [self._encoder.tokenizer.eos_token_id or 0], "targets": [IGNORED], "unread": 1}

    def try_pixels(self, number: int) -> torch.Tensor | None:
        """Return what a record shows, ``float[F, 3, S, S]``; None, and a line in the log, where it can't be read."""
        name = self.records[number].media or ""
        try:
            return torch.from_numpy(self.media.pixels(name))
        except (Poison, Transient) as fault:
            log.warning("Record %d is not learned from: %s: %s.", number + 1, name, fault.detail)
            return None


@dataclass(frozen=True, slots=True)
class Collate:
    """Makes a batch of samples: padded on the right, and what is seen one after the other.

    ``nothing`` is what a batch of text alone sees; its features go nowhere.
    """

    pad: int
    nothing: Batch

    def __call__(self, samples: list[dict[str, Any]]) -> Batch:
        """Return ``ids`` and ``targets`` as ``int64[B, T]``, and ``pixels`` or ``features`` of M clips."""
        longest = max(len(sample["ids"]) for sample in samples)
        rows = {
            name: [sample[name] + [fill] * (longest - len(sample[name])) for sample in samples]
            for name, fill in (("ids", self.pad), ("targets", IGNORED))
        }
        batch = {name: torch.tensor(row) for name, row in rows.items()}
        batch["unread"] = torch.tensor([sample["unread"] for sample in samples]).sum()
        for name, nothing in self.nothing.items():
            seen = [sample[name] for sample in samples if name in sample]
            batch[name] = torch.cat(seen) if seen else nothing
        return batch


class SampleOrder:
    """Which samples each batch holds: a function of seed and place alone, so a run resumes where it was.

    Yields lists of ``batch_size`` numbers for the batches ``[first, last)``. Every sample comes once before any comes
    again; with ``shuffled`` each time round is in an order of its own.
    """

    drop_last = True  # Accelerate asks: all batches are whole

    def __init__(self, count: int, batch_size: int, seed: int, first: int, last: int, *, shuffled: bool) -> None:
        self.batch_size = batch_size
        self._count, self._seed, self._shuffled = count, seed, shuffled
        self._first, self._last = first, last

    def __len__(self) -> int:
        """How many batches there are."""
        return self._last - self._first

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches in order."""
        turn, order = -1, np.arange(self._count)
        for batch in range(self._first, self._last):
            chosen = []
            for place in range(batch * self.batch_size, (batch + 1) * self.batch_size):
                if place // self._count != turn:
                    turn = place // self._count
                    order = np.arange(self._count)
                    if self._shuffled:
                        order = np.random.default_rng([self._seed, turn]).permutation(self._count)
                chosen.append(int(order[place % self._count]))
            yield chosen
