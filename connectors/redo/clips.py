"""The clips that are sent through again, whatever source they came from, and what is said of each."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from connectors.errors import ConfigurationError
from connectors.folder.settings import FolderSinkSettings, FolderSourceSettings
from connectors.kafka.settings import KafkaSinkSettings, KafkaSourceSettings
from connectors.redo import folder_clips
from connectors.redo.chosen import Chosen, Outcome
from connectors.redo.conditions import Condition
from connectors.redo.sent import SentAgain

_Sender = Callable[[Chosen], Outcome]


def redo(
    sink: object,
    sources: Mapping[str, object],
    where: Sequence[str],
    *,
    state_dir: Path,
    limit: int | None = None,
    dry_run: bool = False,
) -> Iterator[Outcome]:
    """Send the clips through again of which a message meets all conditions, and yield what became of each.

    ``sink`` and ``sources`` are their settings; in ``state_dir`` lie the key that records are signed with and the note
    of those that were sent. With ``dry_run`` nothing is moved or sent. ``limit`` bounds how many go through again.
    """
    conditions = [Condition.parse(one) for one in where]
    if not conditions:
        raise ConfigurationError("name at least one condition, such as status=looping", path="--where")
    sent = 0
    with ExitStack() as open_clients:
        again = _Again(sink, sources, state_dir, open_clients, dry_run=dry_run)
        for clip in _chosen(sink, sources, conditions):
            if limit is not None and sent >= limit:
                return
            outcome = again.send(clip)
            sent += not (outcome.why_left or outcome.is_under_way)
            yield outcome


def _chosen(sink: object, sources: Mapping[str, object], conditions: Sequence[Condition]) -> Iterable[Chosen]:
    if isinstance(sink, FolderSinkSettings):
        return list(folder_clips.chosen_clips(sink.path, conditions))
    if isinstance(sink, KafkaSinkSettings):
        from connectors.redo import topics

        return topics.chosen_clips(sink, list(sources), conditions)
    raise ConfigurationError("messages are looked through in files and topics", path="sink.kind")


class _Again:
    """Sends each clip the way that its source takes it."""

    def __init__(
        self, sink: object, sources: Mapping[str, object], state_dir: Path, open_clients: ExitStack, *, dry_run: bool
    ) -> None:
        self._sink, self._sources, self._state_dir, self._dry_run = sink, sources, state_dir, dry_run
        self._open_clients = open_clients
        self._senders: dict[str, _Sender] = {}
        self._sent: SentAgain | None = None

    def send(self, clip: Chosen) -> Outcome:
        if clip.source not in self._senders:
            self._senders[clip.source] = self._sender(clip.source)
        return self._senders[clip.source](clip)

    def _sender(self, source: str) -> _Sender:
        settings = self._sources.get(source)
        if isinstance(settings, FolderSourceSettings):
            folder = settings.path
            lines = self._sink.path if isinstance(self._sink, FolderSinkSettings) else None
            return Outcome if self._dry_run else lambda clip: folder_clips.put_back(lines, folder, clip)
        if isinstance(settings, KafkaSourceSettings):
            return self._record_sender(source, settings)
        why = "its source is only read, and remembers what is done" if settings else f"there is no source {source}"
        return lambda clip: Outcome(clip, why)

    def _record_sender(self, source: str, settings: KafkaSourceSettings) -> _Sender:
        from connectors.kafka.replay_key import ReplayKey
        from connectors.redo.records import RecordsAgain

        key, open_clients = ReplayKey.load(self._state_dir), self._open_clients
        letters = self._sink if isinstance(self._sink, KafkaSinkSettings) else None
        lines = self._sink.path if isinstance(self._sink, FolderSinkSettings) else None
        note = self._sent = self._sent or open_clients.enter_context(SentAgain(self._state_dir))

        def set_aside(clip: Chosen) -> None:
            if lines is not None:
                folder_clips.set_aside(lines, clip.lines)

        records = open_clients.enter_context(
            RecordsAgain(source, settings, key, letters=letters, before=set_aside, dry_run=self._dry_run)
        )

        def send(clip: Chosen) -> Outcome:
            if note.knows(clip):
                return Outcome(clip, is_under_way=True)
            outcome = records.send(clip)
            if not outcome.why_left and not self._dry_run:
                note.note(clip)
            return outcome

        return send
