"""Samples of training: conversations as token ids and targets, their order, and the batches made of them.

A conversation is written and encoded as one text, so its tokens are those that the model sees when it is asked. The
tokens that begin inside an answer are learned, and the media token becomes the span of its frames.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from connectors.errors import Poison, Reason, Transient
from neva.conversations import IMAGE, VIDEO, Segment, own_tokens, segments
from neva.token_span import marked, span_tokens_of
from neva.training.dataset.record_set import RecordSet
from neva.training.dataset.records import TrainingRecord
from neva.training.media import TrainingMedia
from neva.training.tower_features import FeatureCache

log = logging.getLogger(__name__)

IGNORED = -100  # the target of a token that does not count, the value that torch's cross-entropy ignores
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
        """Return ids and targets, at most one more than the context holds: the last one is a target alone.

        A longer answer is truncated so, as in NeVA; a span never is.

        Raises:
            Poison: reason ``over_context``; the frames exceed the context. Reason ``prompt``; the text has more of the
                image's token than the record has media.
        """
        text, learned = "", []
        for piece in segments(self.template, record.turns, record.system):
            written = self._written(piece, shows_media=record.media is not None)
            if piece.learned:
                learned.append((len(text), len(text) + len(written)))
            text += written
        done = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        image_id = self.tokenizer.convert_tokens_to_ids(self.image_token)
        if (shown := done["input_ids"].count(image_id)) != len(record.clips):
            detail = f"{self.image_token} stands {shown} times in it, and it shows {len(record.clips)} clips"
            raise Poison(Reason.PROMPT, detail, origin="prompt")
        marks = self._marks()
        ids, targets = [], []
        for token_id, (start, end) in zip(done["input_ids"], done["offset_mapping"], strict=True):
            if token_id == image_id:
                ids += [image_id] * self.span_tokens
                targets += [IGNORED] * self.span_tokens
                continue
            is_answer = token_id not in marks and any(a <= start < b and end > start for a, b in learned)
            ids.append(token_id)
            targets.append(token_id if is_answer else IGNORED)
        if ids[self.longest :].count(image_id):
            detail = f"{ids.count(image_id)} tokens of frames pass the context of {self.longest}: show fewer frames"
            raise Poison(Reason.OVER_CONTEXT, detail, origin="prompt")
        return ids[: self.longest + 1], targets[: self.longest + 1]

    def _marks(self) -> set[int]:
        """Return the tokens around a span, which are not learned even where the questions are."""
        if not self.use_im_start_end:
            return set()
        names = span_tokens_of(self.model_type)
        return {self.tokenizer.convert_tokens_to_ids(name) for name in (names.start, names.end)}

    def _written(self, piece: Segment, *, shows_media: bool) -> str:
        ends = {"bos": self.tokenizer.bos_token or "", "eos": self.tokenizer.eos_token or ""}
        text = own_tokens(self.template, piece.text, **ends)
        if not shows_media:
            return text
        for token in (VIDEO, IMAGE):
            if self.use_im_start_end and token in text:
                text = marked(text, self.model_type, "video" if token == VIDEO else "image")
        return text.replace(VIDEO, self.image_token).replace(IMAGE, self.image_token)


class TrainingSet(Dataset[dict[str, Any]]):  # type: ignore[misc]
    """Records as samples: ``ids``, ``targets``, and the frames as ``pixels`` or, with a cache, as ``features``.

    A record whose media can't be read, or whose frames exceed the context, becomes an empty sample, and its ``unread``
    is 1.
    """

    def __init__(
        self,
        records: RecordSet,
        encoder: ConversationEncoder,
        media: TrainingMedia,
        cache: FeatureCache | None = None,
    ) -> None:
        self.records, self._encoder, self.media, self.cache = records, encoder, media, cache

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, number: int) -> dict[str, Any]:
        record = self.records[number]
        try:
            ids, targets = self._encoder.encode(record)
        except Poison as fault:
            log.warning("%s is not learned from: %s.", self.records.place(number), fault.detail)
            return self._empty()
        sample = {"ids": ids, "targets": targets, "unread": 0}
        if not record.clips:
            return sample
        seen = []
        for clip, name in zip(self.records.clips(number), record.clips, strict=True):
            found = self.cache.read(clip) if self.cache is not None else self.try_pixels(number, name)
            if found is None:
                return self._empty()
            seen.append(found)
        return sample | {"features" if self.cache is not None else "pixels": torch.cat(seen)}

    def _empty(self) -> dict[str, Any]:
        return {"ids": [self._encoder.tokenizer.eos_token_id or 0], "targets": [IGNORED], "unread": 1}

    def try_pixels(self, number: int, name: str) -> torch.Tensor | None:
        """Return a record's clip, ``float[F, 3, S, S]``; None, and a warning in the log, where it can't be read."""
        try:
            return torch.from_numpy(self.media.pixels(name))
        except (Poison, Transient) as fault:
            log.warning("%s is not learned from: %s: %s.", self.records.place(number), name, fault.detail)
            return None


@dataclass(frozen=True, slots=True)
class Collate:
    """Joins samples to a batch: texts padded on the right, and the frames of all clips one after another.

    ``no_frames`` stands for the frames in a batch of text alone; no token takes its features.
    """

    pad: int
    no_frames: Batch

    def __call__(self, samples: list[dict[str, Any]]) -> Batch:
        """Return ``ids`` and ``targets`` as ``int64[B, T]``, and ``pixels`` or ``features`` of M clips."""
        longest = max(len(sample["ids"]) for sample in samples)
        rows = {
            name: [sample[name] + [fill] * (longest - len(sample[name])) for sample in samples]
            for name, fill in (("ids", self.pad), ("targets", IGNORED))
        }
        batch = {name: torch.tensor(row) for name, row in rows.items()}
        batch["unread"] = torch.tensor([sample["unread"] for sample in samples]).sum()
        for name, no_frames in self.no_frames.items():
            seen = [sample[name] for sample in samples if name in sample]
            batch[name] = torch.cat(seen) if seen else no_frames
        return batch


class SampleOrder:
    """The numbers of the samples in each batch, from the seed and the batch's number alone, so that a run can resume.

    Yields lists of ``batch_size`` numbers for the batches ``[first, last)``. Every sample comes once before any comes
    again; with ``shuffled`` each pass over the samples is in another order.
    """

    drop_last = True  # tells Accelerate that no batch is shorter than the others

    def __init__(self, count: int, batch_size: int, seed: int, first: int, last: int, *, shuffled: bool) -> None:
        self.batch_size = batch_size
        self._count, self._seed, self._shuffled = count, seed, shuffled
        self._first, self._last = first, last

    def __len__(self) -> int:
        return self._last - self._first

    def __iter__(self) -> Iterator[list[int]]:
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
