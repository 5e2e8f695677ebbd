"""The table of routes."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import ValidationError

from connectors.at_least_once import AtLeastOnceRoute
from connectors.contract import Sink
from connectors.errors import ConfigurationError
from connectors.folder.route import FolderRoute
from connectors.folder.settings import FolderSourceSettings
from connectors.folder.sink import FolderSink
from connectors.kafka.settings import KafkaSourceSettings
from connectors.routes import _kafka_bounds, build_routes, build_sink, frame_bytes
from connectors.tar.source import TarSource
from daemon.config.clip_settings import settings_by_source
from daemon.config.settings import Settings
from testing.repository import ROOT
from tests.unit.daemon.running_parts import Parts

KAFKA_IN = {"kind": "kafka", "bootstrap_servers": "127.0.0.1:1", "topics": ["clips"]}
TAR_IN = {"kind": "tar", "path": "films.tar"}
FOLDER_IN = {"kind": "folder", "path": "inbox"}
KAFKA_OUT = {"kind": "kafka", "bootstrap_servers": "127.0.0.1:1"}


def settings_of(sources: dict[str, Any], sink: dict[str, Any], folder: Path, **more: Any) -> Settings:
    return Settings.model_validate({"sources": sources, "sink": sink, "state_dir": folder / "state"} | more)


def folder_in(folder: Path) -> dict[str, Any]:
    return {"kind": "folder", "path": folder / "inbox"}


def test_folders_to_files(tmp_path: Path) -> None:
    settings = settings_of(
        {"a": folder_in(tmp_path), "b": folder_in(tmp_path)}, {"kind": "folder", "path": tmp_path}, tmp_path
    )

    sink = build_sink(settings.sink)
    routes = build_routes(settings, sink)

    assert isinstance(sink, FolderSink)
    assert [(type(route), route.name) for route in routes] == [(FolderRoute, "a"), (FolderRoute, "b")]


def test_folder_to_kafka_and_kafka_to_files(tmp_path: Path) -> None:
    out = settings_of({"a": folder_in(tmp_path)}, KAFKA_OUT, tmp_path)
    into = settings_of({"a": KAFKA_IN}, {"kind": "folder", "path": tmp_path}, tmp_path)

    for settings in (out, into):
        routes = build_routes(settings, build_sink(settings.sink, settings.sources), once=True)
        assert [type(route) for route in routes] == [AtLeastOnceRoute]


async def test_kafka_to_kafka_in_transactions(tmp_path: Path) -> None:
    settings = settings_of({"a": KAFKA_IN}, KAFKA_OUT, tmp_path, delivery="transactional")

    route = build_routes(settings, build_sink(settings.sink, settings.sources))[0]

    assert type(route).__name__ == "TransactionalRoute"
    await route.close()


@pytest.mark.parametrize(
    ("source", "sink", "says"),
    [
        ("folder", KAFKA_OUT, "delivery: transactional needs Kafka sources, and a is none"),
        ("kafka", None, "delivery: transactional needs a Kafka sink: write at_least_once"),
        ("kafka", KAFKA_OUT | {"bootstrap_servers": "127.0.0.1:2"}, "name different servers"),
    ],
)
def test_transactions_need_one_cluster(tmp_path: Path, source: str, sink: dict[str, Any] | None, says: str) -> None:
    sources = {"a": KAFKA_IN if source == "kafka" else folder_in(tmp_path)}
    settings = settings_of(sources, sink or {"kind": "folder", "path": tmp_path}, tmp_path, delivery="transactional")

    with pytest.raises(ConfigurationError, match=says) as refused:
        build_routes(settings, build_sink(settings.sink, settings.sources))
    assert refused.value.path == "delivery"


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "a/../../*", ""])
def test_a_pattern_stays_in_its_folder(pattern: str) -> None:
    with pytest.raises(ValidationError):
        FolderSourceSettings(path=Path("x"), pattern=pattern)


def test_folders_alone_never_load_kafka(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from tests.unit.connectors.test_routes import *\n"
        "folder = Path(sys.argv[1])\n"
        "settings = settings_of({'a': folder_in(folder)}, {'kind': 'folder', 'path': folder}, folder)\n"
        "build_routes(settings, build_sink(settings.sink))\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'kafka'])\n"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert ran.stdout == "[]\n"


def test_what_a_source_says_of_itself_is_seen_through_its_route() -> None:
    source: Any = SimpleNamespace(
        name="clips", waiting_for="the broker: nothing listens", held_bytes=5, counters={}, stream=None
    )
    parts = Parts(route=AtLeastOnceRoute(source, cast(Sink, SimpleNamespace(waiting_for=""))))

    assert parts.health.not_ready() == "starting"
    assert parts.health.waiting_for() == {"clips": "the broker: nothing listens"}
    assert parts.health.snapshot()["in_flight_bytes"] == {"held": 235, "limit": 1000}


@pytest.mark.parametrize(
    ("sources", "frames", "each", "spool"),
    [
        ({"a": FOLDER_IN}, 1200, 0, 0),
        ({"a": KAFKA_IN}, 600, 300, 0),
        ({"a": KAFKA_IN, "b": KAFKA_IN, "c": FOLDER_IN}, 600, 150, 0),
        ({"a": KAFKA_IN | {"references": {"url_prefixes": ["http://host/"]}}}, 600, 200, 200),
        ({"a": TAR_IN}, 600, 0, 0),
        ({"a": KAFKA_IN, "b": TAR_IN}, 600, 150, 0),
    ],
    ids=["a folder", "one topic", "two topics and a folder", "a topic with URLs", "an archive", "a topic, an archive"],
)
def test_the_parts_of_the_bytes_are_the_whole(
    tmp_path: Path, sources: dict[str, Any], frames: int, each: int, spool: int
) -> None:
    settings = settings_of(sources, KAFKA_OUT, tmp_path, limits={"in_flight_bytes": 1200})
    bounds = [
        _kafka_bounds(source, settings, once=False)
        for source in settings.sources.values()
        if isinstance(source, KafkaSourceSettings)
    ]

    assert frame_bytes(settings) == frames
    assert [(one.held_bytes, one.spool_bytes) for one in bounds] == [(each, spool)] * len(bounds)
    parts = sum(one.held_bytes + 4 * one.fetch_bytes + one.spool_bytes for one in bounds)
    assert frames + parts <= 1200


def test_an_archive_s_spool_has_its_part_and_is_counted(tmp_path: Path) -> None:
    sources = {"a": KAFKA_IN, "b": TAR_IN | {"path": tmp_path / "films.tar"}}
    settings = settings_of(sources, KAFKA_OUT, tmp_path, limits={"in_flight_bytes": 1200})

    source = cast(TarSource, build_routes(settings, build_sink(settings.sink, settings.sources))[1].source)  # type: ignore[attr-defined]

    assert (source._spool.folder, source._spool.max_bytes) == (tmp_path / "state" / "spool", 300)
    assert source._spool.take(70, lambda: True)
    assert (source.held_bytes, source.counters) == (70, {"spooled_bytes": 0})


STREAM_IN = {"kind": "stream", "url": "rtsp://me:secret@127.0.0.1:1/cam"}


def test_a_run_that_ends_by_itself_takes_no_stream(tmp_path: Path) -> None:
    settings = settings_of({"a": folder_in(tmp_path), "cam": STREAM_IN}, {"kind": "folder", "path": tmp_path}, tmp_path)

    with pytest.raises(ConfigurationError, match="does not end") as refused:
        build_routes(settings, build_sink(settings.sink), once=True)

    assert refused.value.path == "sources.cam.kind"


def test_a_stream_has_no_transactions(tmp_path: Path) -> None:
    settings = settings_of({"cam": STREAM_IN}, KAFKA_OUT, tmp_path, delivery="transactional")

    with pytest.raises(ConfigurationError, match="cam is none"):
        build_routes(settings, build_sink(settings.sink, settings.sources))


@pytest.mark.parametrize(
    ("windows", "key"),
    [
        ({"policy": "whole"}, "windows.policy"),
        ({"policy": "shots"}, "windows.policy"),
        ({"unchanged": {}}, "unchanged"),
    ],
)
def test_a_stream_has_windows_of_seconds(tmp_path: Path, windows: dict[str, Any], key: str) -> None:
    source = {**STREAM_IN, "windows": windows}
    settings = settings_of({"cam": source}, {"kind": "folder", "path": tmp_path}, tmp_path)

    with pytest.raises(ConfigurationError) as refused:
        settings_by_source(settings)

    assert refused.value.path.startswith("sources.cam.windows")
    assert refused.value.path.endswith(key.rsplit(".", maxsplit=1)[-1])
