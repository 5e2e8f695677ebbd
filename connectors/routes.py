"""The table of routes: from a configuration to the sources, the sink and the routes between them.

| source      | sink   | route |
|-------------|--------|-------|
| folder, tar | folder | :class:`.folder.route.FolderRoute` |
| stream      | any    | :class:`.stream.route.StreamRoute`; into a folder, exactly once |
| kafka       | kafka  | with ``delivery: transactional``, :class:`.kafka.transactional_route.TransactionalRoute` |
| any         | any    | else :class:`.at_least_once.AtLeastOnceRoute` |

Kafka's modules are imported inside functions: a configuration without Kafka never loads its client.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from connectors.at_least_once import AtLeastOnceRoute
from connectors.checks.combinations import check_connectors as check_connectors
from connectors.checks.combinations import refuse_endless, refuse_mixed_transactions
from connectors.checks.overlaps import refuse_overlaps as refuse_overlaps
from connectors.contract import Progress, Route, Sink, Source
from connectors.errors import ConfigurationError
from connectors.folder.route import FolderRoute
from connectors.folder.settings import FolderSinkSettings, FolderSourceSettings
from connectors.folder.sink import FolderSink
from connectors.folder.source import FolderSource
from connectors.kafka.settings import KafkaSinkSettings, KafkaSourceSettings
from connectors.media.protocols import FileSpan, Media
from connectors.media.reference import open_reference
from connectors.media.remote import is_remote, open_remote
from connectors.media.spool import Spool
from connectors.messages.webvtt import Shown
from connectors.reopened_route import ReopenedRoute
from connectors.settings import AnySink, ConnectorSettings
from connectors.stream.disk_recording import DiskRecording
from connectors.stream.grid import Grid
from connectors.stream.hour_files import HourFiles
from connectors.stream.route import StreamRoute
from connectors.stream.settings import StreamSourceSettings
from connectors.stream.source import StreamSource
from connectors.tar.settings import TarSourceSettings
from connectors.tar.source import TarSource
from connectors.terminal import CallbackSink

if TYPE_CHECKING:
    from connectors.enqueue.references import Enqueued
    from connectors.kafka.replay_key import ReplayKey
    from connectors.kafka.source import SourceBounds
    from connectors.redo.chosen import Outcome

Grids = Mapping[str, tuple[int, int]]
NO_GRIDS: Grids = MappingProxyType({})

_WAITING = 3  # the clips that are worked on, and twice as many that wait until a commit made their end durable


def build_sink(settings: AnySink, sources: Collection[str] = ()) -> Sink:
    """Return the sink; ``sources`` are the names of those that will write to it."""
    if isinstance(settings, FolderSinkSettings):
        return FolderSink(settings)
    from connectors.kafka.sink import KafkaSink

    return KafkaSink(settings, sources)


def build_routes(
    settings: ConnectorSettings, sink: Sink, *, once: bool = False, grids: Grids = NO_GRIDS
) -> list[Route]:
    """Return a route for each source; with ``once`` each ends after what its source holds now.

    ``grids`` are the length and the stride of each stream's windows, in nanoseconds.
    """
    return [build_route(name, settings, sink, once=once, grids=grids) for name in settings.sources]


def reopened_routes(
    settings: ConnectorSettings, sink: Sink, *, once: bool = False, grids: Grids = NO_GRIDS
) -> list[ReopenedRoute]:
    """Return the same routes, each of which can let go of its source and be opened again."""
    build = partial(build_route, settings=settings, sink=sink, once=once, grids=grids)
    return [ReopenedRoute(partial(build, name)) for name in settings.sources]


def build_route(
    name: str, settings: ConnectorSettings, sink: Sink, *, once: bool = False, grids: Grids = NO_GRIDS
) -> Route:
    """Return the route of one source."""
    if once:
        refuse_endless(settings)
    if settings.delivery == "transactional":
        refuse_mixed_transactions(settings)
        return _transactional_route(name, settings, sink, once)
    source = settings.sources[name]
    if isinstance(source, StreamSourceSettings):
        return _stream_route(name, source, settings, sink, Grid(*grids[name]))
    return _settled_route(name, source, settings, sink, once)


def _settled_route(
    name: str,
    source: FolderSourceSettings | TarSourceSettings | KafkaSourceSettings,
    settings: ConnectorSettings,
    sink: Sink,
    once: bool,
) -> Route:
    max_clip_bytes = settings.limits.max_clip_bytes
    if isinstance(source, KafkaSourceSettings):
        return AtLeastOnceRoute(_kafka_source(name, source, settings, once), sink)
    files: Source
    if isinstance(source, TarSourceSettings):
        spool = Spool(settings.state_dir / "spool", _source_bytes(settings))
        files = TarSource(name, source, settings.state_dir, spool=spool, max_clip_bytes=max_clip_bytes, once=once)
    else:
        files = FolderSource(name, source, max_clip_bytes=max_clip_bytes, once=once)
    return FolderRoute(files, sink) if isinstance(sink, FolderSink) else AtLeastOnceRoute(files, sink)


def _stream_route(
    name: str, source: StreamSourceSettings, settings: ConnectorSettings, sink: Sink, grid: Grid
) -> Route:
    reading, output = _stream_source(name, source, settings, grid), settings.sink
    if isinstance(output, FolderSinkSettings):
        sink = HourFiles(output.path, name, Shown(output.questions, output.vtt_prompt))
    return StreamRoute(reading, sink)


def watching_route(name: str, settings: ConnectorSettings, grids: Grids, show: Callable[[Progress], None]) -> Route:
    """Return the route from a live stream that a person watches to whatever shows the captions."""
    source = settings.sources[name]
    if not isinstance(source, StreamSourceSettings):
        raise ConfigurationError("only a live stream can be watched", path=f"sources.{name}.kind")
    return StreamRoute(_stream_source(name, source, settings, Grid(*grids[name])), CallbackSink(show))


def lasting_recordings(settings: ConnectorSettings) -> list[DiskRecording]:
    """Return what records each stream with ``record_while_down``, for a process beside the daemon."""
    streams = {name: one for name, one in settings.sources.items() if isinstance(one, StreamSourceSettings)}
    lasting = {name: one for name, one in streams.items() if one.record_while_down}
    if not lasting:
        raise ConfigurationError("there is nothing to record: no stream has record_while_down: true", path="sources")
    at = settings.state_dir / "streams"
    return [DiskRecording(name, one, at / name, for_others=True) for name, one in lasting.items()]


def _stream_source(name: str, source: StreamSourceSettings, settings: ConnectorSettings, grid: Grid) -> StreamSource:
    folder = settings.state_dir / "streams" / name
    recording = DiskRecording(name, source, folder)
    lag_ns, held = round(source.lag_s * 10**9), _source_bytes(settings)
    return StreamSource(name, recording, grid, folder, on_lag=source.on_lag, lag_ns=lag_ns, max_bytes=held)


def _kafka_source(name: str, source: KafkaSourceSettings, settings: ConnectorSettings, once: bool) -> Source:
    from connectors.kafka.source import KafkaSource

    bounds = _kafka_bounds(source, settings, once)
    spool = Spool(settings.state_dir / "spool", bounds.spool_bytes)
    key, opener = _replay_key(settings), _reference_opener(source, settings, spool)
    return KafkaSource(name, source, bounds, opener, spool=spool, replay_key=key)


def _transactional_route(name: str, settings: ConnectorSettings, sink: Sink, once: bool) -> Route:
    from connectors.kafka.transactional_route import TransactionalRoute

    source, output = settings.sources[name], settings.sink
    assert isinstance(source, KafkaSourceSettings)  # noqa: S101 - refused before
    assert isinstance(output, KafkaSinkSettings)  # noqa: S101 - refused before
    bounds = _kafka_bounds(source, settings, once)
    spool = Spool(settings.state_dir / "spool", bounds.spool_bytes)
    opener = _reference_opener(source, settings, spool)
    key = _replay_key(settings)
    return TransactionalRoute(
        name, source, output, bounds, opener, state_dir=settings.state_dir, spool=spool, replay_key=key
    )


def _replay_key(settings: ConnectorSettings) -> "ReplayKey":
    from connectors.kafka.replay_key import ReplayKey

    return ReplayKey.load(settings.state_dir)


def frame_bytes(settings: ConnectorSettings) -> int:
    """Return what decoded frames may take of ``limits.in_flight_bytes``: all of it, or a half where sources hold clips.

    Those are Kafka's, which hold values (see :class:`connectors.kafka.source.SourceBounds`), archives, whose members
    are copied into a spool, and streams, whose windows are in memory. Each has an even part of the other half, and each
    part has its own line. What is held in one comes back without its holder waiting in another: frames with the answer
    of the engine, all else with the end of its clip, which needs frames alone.
    """
    in_flight_bytes = settings.limits.in_flight_bytes
    return in_flight_bytes if not _holding_sources(settings) else in_flight_bytes // 2


def _holding_sources(settings: ConnectorSettings) -> int:
    holding = KafkaSourceSettings | TarSourceSettings | StreamSourceSettings
    return sum(isinstance(source, holding) for source in settings.sources.values())


def _source_bytes(settings: ConnectorSettings) -> int:
    """Return what each of the sources that hold clips may hold."""
    return (settings.limits.in_flight_bytes - frame_bytes(settings)) // _holding_sources(settings)


def _kafka_bounds(source: KafkaSourceSettings, settings: ConnectorSettings, once: bool) -> "SourceBounds":
    """Return what one Kafka source may hold: its share of the bytes; the slots are shared by the pipeline."""
    from connectors.kafka.source import SourceBounds

    return SourceBounds(
        # clips that wait for a commit, or for others to tell whose fault their failure is, take no other clip's place
        max_clips=_WAITING * settings.limits.max_clips_in_flight + settings.limits.alike_failures,
        in_flight_bytes=_source_bytes(settings),
        max_clip_bytes=settings.limits.max_clip_bytes,
        commit_interval_s=settings.commit_interval_ms / 1000,
        once=once,
        spools=bool(source.references.url_prefixes),
    )


def _reference_opener(
    source: KafkaSourceSettings, settings: ConnectorSettings, spool: Spool
) -> Callable[[str, str], Media]:
    """Return what opens a reference: a file under an allowed folder, or an object under an allowed prefix."""
    prefixes, max_clip_bytes = source.references.url_prefixes, settings.limits.max_clip_bytes
    local = partial(open_reference, roots=source.references.roots, max_clip_bytes=max_clip_bytes)
    remote = partial(open_remote, prefixes=prefixes, spool=spool, max_clip_bytes=max_clip_bytes)
    return lambda uri, name: (remote if is_remote(uri, prefixes) else local)(uri, name)


def replay_dead_letters(
    settings: ConnectorSettings, sources: Collection[str], *, to: str | None, limit: int | None
) -> str:
    """Send dead letters through again and return what was done as a sentence; needs a Kafka sink."""
    sink = settings.sink
    if not isinstance(sink, KafkaSinkSettings):
        raise ConfigurationError("only a Kafka sink has dead letters; a folder's are in failed/", path="sink.kind")
    from connectors.kafka.replay import replay_all

    return replay_all(sink, sources, _replay_key(settings), to=to, limit=limit)


def redo_clips(
    settings: ConnectorSettings, where: Sequence[str], *, limit: int | None = None, dry_run: bool = False
) -> "Iterator[Outcome]":
    """Send clips through again whose messages meet all conditions, and yield what became of each."""
    from connectors.redo.clips import redo

    return redo(settings.sink, settings.sources, where, state_dir=settings.state_dir, limit=limit, dry_run=dry_run)


def open_clip(settings: ConnectorSettings, source: str, name: str, clip_id: str) -> FileSpan | None:
    """Return where the bytes of a clip of a folder or an archive lie, to be looked at; None where it is in none."""
    match settings.sources.get(source):
        case FolderSourceSettings() as folder:
            from connectors.redo.open_clip import open_folder_clip

            descriptor = open_folder_clip(folder.path, source, name, clip_id)
            return None if descriptor is None else FileSpan.whole(descriptor)
        case TarSourceSettings() as archive:
            from connectors.tar.open_member import open_member

            return open_member(archive.path, source, name, clip_id, settings.limits.max_clip_bytes)
    return None


def sources_that_stay(settings: ConnectorSettings) -> list[str]:
    """Return the sources whose clips stay where they are when they have ended, so that they can be looked at."""
    kinds = (FolderSourceSettings, TarSourceSettings)
    return [name for name, one in settings.sources.items() if isinstance(one, kinds)]


def redo_clip(settings: ConnectorSettings, source: str, clip_id: str) -> str:
    """Send one clip through again, as `redo_clips` does; returns why it can't be, and nothing where it is."""
    for outcome in redo_clips(settings, [f"clip_id={clip_id}", f"source={source}"], limit=1):
        return outcome.why_left or ("it is under way already" if outcome.is_under_way else "")
    return "no message of it is where captions go, or it has not ended"


def enqueue_references(
    settings: ConnectorSettings, location: str, topic: str, *, dry_run: bool = False, **wanted: Any
) -> "Iterator[Enqueued]":
    """Write references to what lies in a store or folder to a topic, and yield how far it is.

    ``wanted`` are fields of :class:`connectors.enqueue.references.Wanted`.
    """
    from connectors.enqueue.allowed import enqueue_allowed
    from connectors.enqueue.references import Wanted

    return enqueue_allowed(location, Wanted(topic, **wanted), list(settings.sources.items()), dry_run=dry_run)
