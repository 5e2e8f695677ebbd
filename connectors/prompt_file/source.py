"""NeVA's prompt file as a source: each record names a video or an image, asks something about it, and is one clip."""

import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import chain

from connectors.contract import Clip, ClipPosition, Delivery, Progress, Quarantine, Reporting, clip_id_of
from connectors.prompt_file.answer_journal import AnswerJournal
from connectors.prompt_file.media_shelf import MediaShelf
from connectors.prompt_file.records import Question, number_of


class PromptFileSource(Reporting):
    """A :class:`connectors.contract.Source`: one clip a question, but for those answered.

    Questions about the same media follow each other, so that its frames need not be read again; else they are in order.
    """

    def __init__(self, name: str, questions: Sequence[Question], shelf: MediaShelf, journal: AnswerJournal) -> None:
        self.name = name
        self._questions, self._shelf, self._journal = questions, shelf, journal
        self._draining = False

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield what is not answered yet."""
        for question in self._waiting():
            if self._draining:
                return
            identity = json.dumps([self.name, question.number, question.record], sort_keys=True, default=str)
            clip_id = clip_id_of(identity)
            media = self._shelf.media(question.media)
            clip = Clip(clip_id, self.name, media, time.time_ns(), {"prompt": question.text, "media": question.media})
            quarantine = Quarantine.after(self._journal.deaths[question.number])
            yield Delivery(clip, ClipPosition(quarantine=quarantine), question.number)

    def _waiting(self) -> Iterator[Question]:
        together: dict[str, list[Question]] = {}
        for question in self._questions:
            if question.number not in self._journal.answers:
                together.setdefault(question.media, []).append(question)
        return chain.from_iterable(together.values())

    async def settle(self, progress: Progress) -> None:
        return  # the journal's entry is the position

    async def quarantine(self, delivery: Delivery) -> None:
        await self._journal.engine_died(number_of(delivery))

    async def drain(self) -> None:
        self._draining = True

    async def close(self) -> None:
        """Close the media's archive."""
        self._shelf.close()
