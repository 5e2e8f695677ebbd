"""The table of routes: from a configuration to the sources, the sink and the routes between them.

| source      | sink   | route |
|-------------|--------|-------|
| folder, tar | folder | :class:`.folder.route.FolderRoute` |
| kafka       | kafka  | with ``delivery: transactional``, :class:`.kafka.transactional_route.TransactionalRoute` |
| any         | any    | else :class:`.at_least_once.AtLeastOnceRoute` |

Kafka's modules are imported inside functions: a configuration without Kafka never loads its client.
"""

from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING

from connectors.at_least_once import AtLeastOnceRoute
from connectors.contract import Route, Sink, Source
from connectors.errors import ConfigurationError
from connectors.folder.route import FolderRoute
from connectors.folder.settings import FolderSinkSettings
from connectors.folder.sink import FolderSink
from connectors.folder.source import FolderSource
from connectors.kafka.settings import KafkaSinkSettings, KafkaSourceSettings
from connectors.media.protocols import Media
from connectors.media.reference import open_reference
from connectors.media.remote import is_remote, open_remote
from connectors.media.spool import Spool
from connectors.overlaps import refuse_overlaps as refuse_overlaps
from connectors.reopened_route import ReopenedRoute
from connectors.settings import AnySink, ConnectorSettings
from connectors.tar.settings import TarSourceSettings
from connectors.tar.source import TarSource

if TYPE_CHECKING:
    from connectors.kafka.replay_key import ReplayKey
    from connectors.kafka.source import SourceBounds

_WAITING = 3  # the clips that are worked on, and twice as many that wait until a commit made their end durable


def build_sink(settings: AnySink, sources: Collection[str] = ()) -> Sink:
    """Return the sink; ``sources`` are the names of those that will write to it."""
    if isinstance(settings, FolderSinkSettings):
        return FolderSink(settings)
    from connectors.kafka.sink import KafkaSink

    return KafkaSink(settings, sources)


def build_routes(settings: ConnectorSettings, sink: Sink, *, once: bool = False) -> list[Route]:
    """Return a route for each source; with ``once`` each ends after what its source holds now."""
    return [build_route(name, settings, sink, once=once) for name in settings.sources]


def reopened_routes(settings: ConnectorSettings, sink: Sink, *, once: bool = False) -> list[ReopenedRoute]:
    """Return the same routes, each of which can let go of its source and be opened again."""
    return [ReopenedRoute(partial(build_route, name, settings, sink, once=once)) for name in settings.sources]


def build_route(name: str, settings: ConnectorSettings, sink: Sink, *, once: bool = False) -> Route:
    """Return the route of one source."""
    if settings.delivery == "transactional":
        refuse_mixed_transactions(settings)
        return _transactional_route(name, settings, sink, once)
    return _settled_route(name, settings, sink, once)


def refuse_mixed_transactions(settings: ConnectorSettings) -> None:
    """Raise :class:`ConfigurationError` unless every source and the sink are Kafka on one cluster."""
    sink = settings.sink
    if not isinstance(sink, KafkaSinkSettings):
        raise ConfigurationError("transactional needs a Kafka sink: write at_least_once", path="delivery")
    for name, source in settings.sources.items():
        if not isinstance(source, KafkaSourceSettings):
            raise ConfigurationError(f"transactional needs Kafka sources, and {name} is none", path="delivery")
        if set(source.bootstrap_servers) != set(sink.bootstrap_servers):
            message = f"a transaction is within one cluster, and {name} and the sink name different servers"
            raise ConfigurationError(message, path="delivery")


def _settled_route(name: str, settings: ConnectorSettings, sink: Sink, once: bool) -> Route:
    source, max_clip_bytes = settings.sources[name], settings.limits.max_clip_bytes
    if isinstance(source, KafkaSourceSettings):
        return AtLeastOnceRoute(_kafka_source(name, source, settings, once), sink)
    files: Source
    if isinstance(source, TarSourceSettings):
        spool = Spool(settings.state_dir / "spool", _source_bytes(settings))
        files = TarSource(name, source, settings.state_dir, spool=spool, max_clip_bytes=max_clip_bytes, once=once)
    else:
        files = FolderSource(name, source, max_clip_bytes=max_clip_bytes, once=once)
    return FolderRoute(files, sink) if isinstance(sink, FolderSink) else AtLeastOnceRoute(files, sink)


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

    Those are Kafka's, which hold values (see :class:`connectors.kafka.source.SourceBounds`), and archives, whose
    members are copied into a spool. Each has an even part of the other half, and each part has its own line. What is
    held in one comes back without its holder waiting in another: frames with the engine's answer, values and spooled
    clips with the end of their clip, which needs frames alone.
    """
    in_flight_bytes = settings.limits.in_flight_bytes
    return in_flight_bytes if not _holding_sources(settings) else in_flight_bytes // 2


def _holding_sources(settings: ConnectorSettings) -> int:
    return sum(isinstance(source, KafkaSourceSettings | TarSourceSettings) for source in settings.sources.values())


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


def check_connectors(settings: ConnectorSettings) -> list[str]:
    """Look at the folders and ask the clusters that the configuration names, and return what is surprising.

    Raises:
        ConfigurationError: something that waiting does not repair, such as a missing topic or a wrong password.
    """
    refuse_overlaps(settings)
    if settings.delivery == "transactional":
        refuse_mixed_transactions(settings)
    lines: list[str] = []
    for name, source in settings.sources.items():
        if isinstance(source, KafkaSourceSettings):
            from connectors.kafka.checks import check_source

            lines += check_source(name, source)
    if isinstance(settings.sink, KafkaSinkSettings):
        from connectors.kafka.checks import check_sink

        lines += check_sink(settings.sink, settings.sources)
    return lines


def replay_dead_letters(
    settings: ConnectorSettings, sources: Collection[str], *, to: str | None, limit: int | None
) -> str:
    """Send dead letters through again and return what was done as a sentence; needs a Kafka sink."""
    sink = settings.sink
    if not isinstance(sink, KafkaSinkSettings):
        raise ConfigurationError("only a Kafka sink has dead letters; a folder's are in failed/", path="sink.kind")
    from connectors.kafka.replay import replay

    key = _replay_key(settings)
    topics = {sink.dead_letter_topic_for(name): name for name in sources}
    done = [replay(sink, name, key, to=to, limit=limit) for name in topics.values()]
    left = next((f" Not sent: {one.left}, because {one.why_left}." for one in done if one.left), "")
    return f"Sent {sum(one.sent for one in done)} dead letters through again.{left}"
