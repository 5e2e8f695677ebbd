"""Captions and rejections to Kafka topics, through an idempotent producer.

One thread owns the producer. All writes that wait are sent together and acknowledged together, so a write costs its
share of a round trip; what is not acknowledged is sent again, in the same order, until it is.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.contract import Progress, Reporting
from connectors.errors import ConfigurationError, Poison, Reason
from connectors.kafka.client.consumer import (
    BrokerAway,
    RecordTooLarge,
    abandon_producer,
    translate,
)
from connectors.kafka.client.producer import Output, connect_output, explain_outage
from connectors.kafka.client.settings import DELIVERY_MS
from connectors.kafka.consumer.commit_queue import answer
from connectors.kafka.encoder import records_of
from connectors.kafka.record import OutRecord
from connectors.kafka.settings import KafkaSinkSettings

log = logging.getLogger(__name__)

BACK_OFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)  # between tries while a broker is away; the last bounds how late we notice
ACKNOWLEDGE_S = DELIVERY_MS / 1000 + 2.0  # the client itself gives a record up after its delivery time-out
CLOSE_S = 5.0  # for what is being sent when the sink is closed; nobody waits for it any more


@dataclass(eq=False, slots=True)
class _Write:
    """Records that are acknowledged together, and who waits for that."""

    records: tuple[OutRecord, ...]
    waiter: "asyncio.Future[None]"
    loop: asyncio.AbstractEventLoop


class KafkaSink(Reporting):
    """A :class:`connectors.contract.Sink` over one producer."""

    def __init__(self, settings: KafkaSinkSettings, sources: Collection[str]) -> None:
        self.settings, self._sources = settings, tuple(sources)
        self._waiting_for = ""
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._tries = 0
        self._output: Output | None = None
        self._thread: threading.Thread | None = None

    @property
    def waiting_for(self) -> str:
        """See :class:`connectors.contract.Reporting`."""
        return self._waiting_for

    async def write(self, progress: Progress) -> None:
        """Return when every in-sync replica has the captions and the rejection; waits out an outage.

        :class:`Poison` where the topic refuses a caption for its size.
        """
        records = records_of(progress, self.settings)
        if records:
            await self.write_records(records)

    async def write_records(self, records: Sequence[OutRecord]) -> None:
        """Write records that are made already; see :meth:`write`."""
        if self._closing.is_set():
            raise RuntimeError("the sink is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="kafka sink", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._writes.put(_Write(tuple(records), waiter, loop))
        await waiter

    async def close(self) -> None:
        """Let go; whatever was not acknowledged by now was not settled either."""
        self._closing.set()
        self._writes.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, CLOSE_S)

    def _run(self) -> None:
        while (first := self._writes.get()) is not None:
            batch = [first]
            while not self._writes.empty():
                following = self._writes.get()
                if following is None:
                    self._writes.put(None)
                    break
                batch.append(following)
            while batch and not self._closing.is_set():
                batch = self._try(batch)
        if self._output is not None:
            abandon_producer(self._output.producer)

    def _try(self, batch: list[_Write]) -> list[_Write]:
        """Send a batch and return what must be sent again."""
        try:
            if self._output is None:
                self._output = connect_output(self.settings, self._sources)
            again = self._send(self._output, batch)
        except ConfigurationError as error:
            _answer(batch, error)
            return []
        except Exception as error:
            self._wait(error)
            return batch
        self._tries, self._waiting_for = 0, ""
        return again

    def _send(self, output: Output, batch: list[_Write]) -> list[_Write]:
        """Send all, wait for all, answer those that are whole.

        1. Every record is given to the client, in order.
        2. One flush waits for the acknowledgements.
        3. Writes acknowledged whole are answered; what a topic refuses for its size is answered with the reason.
        """
        sent: list[tuple[_Write, list[Any]]] = []
        for write in batch:
            sent.append((write, []))
            for record in write.records:
                sent[-1][1].append(_send_or_fault(output, record))  # 1
        output.producer.flush(timeout=ACKNOWLEDGE_S)  # 2
        done, again, fault = [], [], None
        for write, results in sent:  # 3
            faults = [found for result in results if (found := _fault_of(result)) is not None]
            if not faults:
                done.append(write)
            elif all(isinstance(found, RecordTooLarge) for found in faults):
                again += _without_clip(write)
            else:
                fault = next(found for found in faults if not isinstance(found, RecordTooLarge))
                again.append(write)
        _answer(done, None)
        if fault is not None:
            batch[:] = again
            raise fault
        return again

    def _wait(self, error: Exception) -> None:
        """Note an outage, let go of the producer, and back off.

        A producer that gave a record up is of no more use: kafka-python 3.0.12 can leave the partition of an expired
        batch muted, and then sends nothing to it any more and says nothing about it.
        """
        fault = translate(error, path="sink")
        if self._output is not None:
            abandon_producer(self._output.producer)
            self._output = None
        self._tries += 1
        if self._tries > 1:
            reason = explain_outage(self.settings) or str(fault)
            if not self._waiting_for:
                log.warning("The sink waits for the broker: %s.", reason)
            self._waiting_for = f"the broker: {reason}"
        self._closing.wait(BACK_OFF_S[min(self._tries, len(BACK_OFF_S)) - 1])


def _send_or_fault(output: Output, record: OutRecord) -> Any:
    try:
        return output.send(record)
    except Exception as error:
        fault = translate(error, path="sink")
        if isinstance(fault, RecordTooLarge):
            return fault
        raise fault from error


def _fault_of(result: Any) -> Exception | None:
    if isinstance(result, Exception):
        return result
    if not result.is_done:
        return BrokerAway("a record was not acknowledged in time")
    return translate(result.exception, path="sink") if result.failed() else None


def _without_clip(write: _Write) -> list[_Write]:
    """Return a dead letter without its clip, to be sent instead; a caption too large is answered."""
    if any(record.fallback is not None for record in write.records):
        write.records = tuple(record.fallback or record for record in write.records)
        return [write]
    fault = Poison(Reason.CAPTION_TOO_LARGE, "the output topic refuses a message of this size", origin="sink")
    _answer([write], fault)
    return []


def _answer(writes: Sequence[_Write], failure: Exception | None) -> None:
    if writes and not writes[0].loop.is_closed():
        writes[0].loop.call_soon_threadsafe(answer, [write.waiter for write in writes], failure)
