"""Captions and rejections to Kafka topics, through an idempotent producer.

One thread owns the producer. All writes that wait are sent together and acknowledged together, so a write costs its
share of a round trip; what is not acknowledged is sent again, in the same order, until it is.
"""

import asyncio
import queue
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

from connectors.contract import Progress, Reporting
from connectors.errors import ConfigurationError, Poison
from connectors.kafka.client.errors import RecordTooLarge, translate
from connectors.kafka.client.outage import Outage
from connectors.kafka.client.producer import Acknowledgement, TopicProducer, fault_of
from connectors.kafka.client.settings import DELIVERY_MS
from connectors.kafka.cluster import connect_producer, explain_outage
from connectors.kafka.encoder import records_of
from connectors.kafka.record import ProducerRecord, fallbacks_of
from connectors.kafka.settings import KafkaSinkSettings
from connectors.kafka.waiters import answer

ACKNOWLEDGE_S = DELIVERY_MS / 1000 + 2.0  # the client itself gives a record up after its delivery time-out
CLOSE_S = 5.0  # for what is being sent when the sink is closed; nobody waits for it any more


@dataclass(frozen=True, eq=False, slots=True)
class _Write:
    """Records that are acknowledged together, and who waits for that."""

    records: tuple[ProducerRecord, ...]
    waiter: "asyncio.Future[None]"
    loop: asyncio.AbstractEventLoop


class KafkaSink(Reporting):
    """A :class:`connectors.contract.Sink` over one producer."""

    def __init__(self, settings: KafkaSinkSettings, sources: Collection[str]) -> None:
        self.settings, self._sources = settings, tuple(sources)
        self._outage = Outage("The sink", partial(explain_outage, settings, path="sink"))
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._producer: TopicProducer | None = None
        self._thread: threading.Thread | None = None

    @property
    def waiting_for(self) -> str:
        """See :class:`connectors.contract.Reporting`."""
        return self._outage.waiting_for

    async def write(self, progress: Progress) -> None:
        """Return when every in-sync replica has the captions and the rejection; waits out an outage.

        :class:`Poison` where the topic refuses a caption for its size.
        """
        records = records_of(progress, self.settings)
        if records:
            await self.write_records(records)

    async def write_records(self, records: Sequence[ProducerRecord]) -> None:
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
        if self._producer is not None:
            self._producer.abandon()

    def _try(self, batch: list[_Write]) -> list[_Write]:
        """Send a batch and return what must be sent again."""
        left: list[_Write] = batch
        fault: Exception | None = None
        try:
            if self._producer is None:
                self._producer = connect_producer(self.settings, self._sources)
            left, fault = _send(self._producer, batch)
        except Exception as error:
            fault = error
        if isinstance(fault, ConfigurationError):
            _answer(left, fault)
            return []
        if fault is not None:
            self._wait(fault)
        else:
            self._outage.reachable()
            self._outage.succeeded()
        return left

    def _wait(self, error: Exception) -> None:
        """Let go of the producer, and back off.

        A producer that gave a record up is of no more use: kafka-python 3.0.12 can leave the partition of an expired
        batch muted, and then sends nothing to it any more and says nothing about it.
        """
        if self._producer is not None:
            self._producer.abandon()
            self._producer = None
        self._closing.wait(self._outage.failed(translate(error, path="sink")))


def _send(producer: TopicProducer, batch: Sequence[_Write]) -> tuple[list[_Write], Exception | None]:
    """Send all, wait for all, and answer those that are whole; return what is left, and why where the broker failed.

    1. Every record is given to the client, in order.
    2. One flush waits for the acknowledgements.
    3. Writes acknowledged whole are answered; what a topic refuses for its size is answered with the reason.
    """
    sent = [(write, [_give(producer, record) for record in write.records]) for write in batch]  # 1
    producer.flush(ACKNOWLEDGE_S)  # 2
    done: list[_Write] = []
    left: list[_Write] = []
    failure: Exception | None = None
    for write, results in sent:  # 3
        faults = [fault for fault in map(_fault_of, results) if fault is not None]
        others = [fault for fault in faults if not isinstance(fault, RecordTooLarge)]
        if others:
            failure = others[0]
            left.append(write)
        elif faults:
            left += _with_fallbacks(write)
        else:
            done.append(write)
    _answer(done)
    return left, failure


def _give(producer: TopicProducer, record: ProducerRecord) -> Acknowledgement | RecordTooLarge:
    try:
        return producer.send(record)
    except Exception as error:
        fault = translate(error, path="sink")
        if isinstance(fault, RecordTooLarge):
            return fault
        raise fault from error


def _fault_of(result: Acknowledgement | RecordTooLarge) -> Exception | None:
    return result if isinstance(result, RecordTooLarge) else fault_of(result, path="sink")


def _with_fallbacks(write: _Write) -> list[_Write]:
    """Return what is sent instead of a write that a topic refuses for its size; what can't be sent is answered."""
    try:
        return [replace(write, records=fallbacks_of(write.records, "the output topic refuses a message of this size"))]
    except Poison as fault:
        _answer([write], fault)
        return []


def _answer(writes: Sequence[_Write], failure: Exception | None = None) -> None:
    if writes:
        answer(writes[0].loop, [write.waiter for write in writes], failure)
