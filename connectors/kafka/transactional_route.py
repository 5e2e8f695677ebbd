"""Kafka to Kafka in transactions: captions, rejections and the position become visible together or not at all.

A reader that reads committed records sees the windows of a clip once each, whatever is killed. The decision record on
transactions says what Kafka's protocol leaves open to clients that do not know KIP-890.
"""

import fcntl
import os
import re
import socket
from collections.abc import Callable, Collection
from pathlib import Path

from connectors.contract import Progress
from connectors.errors import ConfigurationError
from connectors.kafka.client.producer import TopicProducer
from connectors.kafka.cluster import connect_producer
from connectors.kafka.consumer.committer import TransactionCommitter
from connectors.kafka.encoder import records_of
from connectors.kafka.settings import KafkaSinkSettings, KafkaSourceSettings
from connectors.kafka.source import KafkaSource, SourceBounds
from connectors.media.protocols import Media
from connectors.media.remote import Spool
from connectors.source_route import SourceRoute, confirm_unchanged

MAX_SLOTS = 64  # daemons of one group on one host that share a state_dir; more would be a mistake in the unit


class TransactionalSlot:
    """The first transactional id of this group and host that no other process holds.

    A process that is killed lets go of its slot with its life, and the next one takes the same id: the broker then
    ends at once what the dead one left open, instead of after the transaction's time-out.
    """

    def __init__(self, state_dir: Path, group: str) -> None:
        folder = state_dir / "transactions"
        folder.mkdir(parents=True, exist_ok=True)
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", group)
        for number in range(MAX_SLOTS):
            self._file = os.open(folder / f"{safe}.{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._file)
                continue
            self.transactional_id = f"captiond.{group}.{socket.gethostname()}.{number}"
            return
        raise ConfigurationError(f"{MAX_SLOTS} daemons of group {group!r} run with this folder", path="state_dir")

    def release(self) -> None:
        """Let another process have the id."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class TransactionalRoute(SourceRoute):
    """A :class:`connectors.contract.Route` whose every publish is part of a transaction."""

    source: KafkaSource

    def __init__(
        self,
        name: str,
        source: KafkaSourceSettings,
        sink: KafkaSinkSettings,
        bounds: SourceBounds,
        open_reference: Callable[[str, str], Media],
        *,
        state_dir: Path,
        sources: Collection[str] = (),
        spool: Spool | None = None,
    ) -> None:
        self._sink, self._topics_of = sink, tuple(sources) or (name,)
        self._slot = TransactionalSlot(state_dir, source.group(name))
        committer = TransactionCommitter(self._connect)
        super().__init__(KafkaSource(name, source, bounds, open_reference, committer, spool))

    def _connect(self) -> TopicProducer:
        return connect_producer(self._sink, self._topics_of, self._slot.transactional_id)

    async def publish(self, progress: Progress) -> None:
        """Return when a transaction with the records and the position is committed.

        After the partition's revoke nothing is written and nothing is committed: its new owner does the windows again.
        """
        await confirm_unchanged(progress)
        await self.source.publish(progress, records_of(progress, self._sink))

    async def close(self) -> None:
        """Commit what is ready, leave the group and let the transactional id go."""
        await super().close()
        self._slot.release()
