"""Pending commits whose waiters can be asked what they heard, without an event loop."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, cast

from connectors.kafka.offset_ledger import Outcome
from connectors.kafka.record import PendingCommit, ProducerRecord, SourceRecord
from tests.unit.connectors.kafka.scripted_client import TOPIC

Waiter = Future[None]


class ImmediateLoop:
    """An event loop that does at once what a thread asks of it."""

    def is_closed(self) -> bool:
        return False

    def call_soon_threadsafe(self, call: Callable[..., None], *args: Any) -> None:
        call(*args)


def pending(number: int, offset: int, outcome: Outcome, *records: ProducerRecord, assignment: int = 1) -> PendingCommit:
    """Return a pending commit about the clip at an offset of a partition."""
    return PendingCommit(SourceRecord(TOPIC, number, offset, assignment), outcome, records, cast(Any, Waiter()))


def answer_of(commit: PendingCommit) -> BaseException | str | None:
    """Return what the waiter heard: an error, or "answered" without one; None while it waits."""
    waiter = cast(Waiter, commit.waiter)
    if not waiter.done():
        return None
    return waiter.exception() or "answered"
