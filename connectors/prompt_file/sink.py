"""NeVA's output file as a sink: answers come in any order and are durable at once, in a journal beside the output.

When the last one is there, the output is written whole, in the order of the prompts.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from connectors.contract import Caption, Progress, Rejection, Reporting
from connectors.files.durable import DiskPatience, write_whole
from connectors.prompt_file.answer_journal import AnswerJournal
from connectors.prompt_file.records import number_of, render_records

Compose = Callable[[int, Caption | None, Rejection | None], dict[str, Any]]


class PromptFileSink(Reporting):
    """A :class:`connectors.contract.Sink`: the journal, then the output file.

    ``compose(number, caption, rejection)`` makes a record's output; a record has a caption, a rejection, or both.
    ``failed`` counts the rejected ones.
    """

    def __init__(self, output: Path, journal: AnswerJournal, count: int, compose: Compose) -> None:
        self._output, self._journal, self._count, self._compose = output, journal, count, compose
        self._captions: dict[int, Caption] = {}
        self._patience, self._turn = DiskPatience(), asyncio.Lock()
        self.failed = 0
        self.is_complete = False

    async def write(self, progress: Progress) -> None:
        """Make a finished record's answer durable, and with the last one the output.

        1. The answer goes into the journal. 2. When every record has one, the output is written whole and renamed into
        place. 3. The journal is removed. A crash between the two last steps writes the same output again.
        """
        number = number_of(progress.delivery)
        for caption in progress.captions:
            self._captions[number] = caption
        if not progress.last:
            return
        said = self._captions.pop(number, None)
        failed = progress.rejection is not None or (said is not None and said.status == "error")
        self.failed += failed
        record = self._compose(number, said, progress.rejection)
        await self._journal.answer(number, record, keep=not failed)  # 1
        await self.finish()

    async def finish(self) -> None:
        """Write the output where every record has its answer."""
        async with self._turn:
            if self.is_complete or len(self._journal.answers) < self._count:
                return
            records = [self._journal.answers[number] for number in range(self._count)]
            data = render_records(records, as_list=self._output.suffix == ".json")
            await self._patience.run(lambda: _write_output(self._output, data), "Writing the output")  # 2
            self._journal.remove()  # 3
            self.is_complete = True

    async def close(self) -> None:
        """Close the journal; it stays where the job is not done."""
        self._journal.close()


def _write_output(output: Path, data: bytes) -> None:
    folder = os.open(output.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        write_whole(folder, output.name, data)
    finally:
        os.close(folder)
