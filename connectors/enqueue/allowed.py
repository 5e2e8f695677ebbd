"""References to what lies in a store or folder, where the source that reads their topic allows it."""

from collections.abc import Iterator, Sequence

from connectors.enqueue.listing import Store
from connectors.enqueue.references import Enqueued, Wanted, enqueue, source_of
from connectors.errors import ConfigurationError, Poison, Reason, Unavailable
from connectors.kafka.client.errors import KafkaFault
from connectors.media.reference import locate
from connectors.media.remote import check_remote


def enqueue_allowed(
    location: str, wanted: Wanted, sources: Sequence[tuple[str, object]], *, dry_run: bool = False
) -> Iterator[Enqueued]:
    """Write references to a topic that one of ``sources`` reads, and yield how far it is.

    Raises:
        ConfigurationError: no source reads the topic, or the one that does would reject every clip there.
        Unavailable: the broker did not answer, or another call took over.
    """
    source, kafka = source_of(wanted.topic, sources)
    store, allowed = Store(location), kafka.references

    def check(uri: str) -> None:
        if store.is_local:
            if not locate(uri, allowed.roots):
                raise Poison(Reason.FORBIDDEN_PATH, "it is not under an allowed folder", origin="source")
        else:
            check_remote(uri, allowed.url_prefixes)

    places = [f"{root}/" for root in allowed.roots] if store.is_local else allowed.url_prefixes
    if not store.uri.startswith(tuple(places)):
        key = "roots" if store.is_local else "url_prefixes"
        detail = f"{store.uri} is not allowed: the source would reject every clip there"
        raise ConfigurationError(detail, path=f"sources.{source}.references.{key}")
    return _until_broken_off(enqueue(store, wanted, source, kafka, check=check, dry_run=dry_run))


def _until_broken_off(steps: Iterator[Enqueued]) -> Iterator[Enqueued]:
    try:
        yield from steps
    except KafkaFault as fault:
        raise Unavailable(f"writing was broken off: {fault}. A further call goes on where it stopped.") from fault
