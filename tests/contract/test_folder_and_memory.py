"""Folders, archives and memory keep the contracts."""

from pathlib import Path

import pytest

from connectors.at_least_once import AtLeastOnceRoute
from connectors.folder.route import FolderRoute
from tests.contract.folder_harness import (
    ROUTES,
    ConnectorPair,
    FolderHarness,
    FolderSinkHarness,
    MemoryHarness,
    MemorySinkHarness,
)
from tests.contract.route_contract import RouteContract
from tests.contract.sink_contract import SinkContract
from tests.contract.source_contract import SourceContract
from tests.contract.tar_harness import TarHarness

pytestmark = pytest.mark.timeout(20)


class TestFolderSource(SourceContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> FolderHarness:
        return FolderHarness(tmp_path)


class TestTarSource(SourceContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> TarHarness:
        return TarHarness(tmp_path)


class TestMemorySource(SourceContract):
    @pytest.fixture
    def harness(self) -> MemoryHarness:
        return MemoryHarness()


class TestFolderSink(SinkContract):
    @pytest.fixture
    def sink_harness(self, tmp_path: Path) -> FolderSinkHarness:
        return FolderSinkHarness(tmp_path)


class TestMemorySink(SinkContract):
    @pytest.fixture
    def sink_harness(self) -> MemorySinkHarness:
        return MemorySinkHarness()


ALL_ROUTES = ROUTES | {
    "tar to files": lambda at: ConnectorPair(TarHarness(at), FolderSinkHarness(at), FolderRoute),
    "tar to memory": lambda at: ConnectorPair(TarHarness(at), MemorySinkHarness(), AtLeastOnceRoute),
}


class TestRoutes(RouteContract):
    @pytest.fixture(params=ALL_ROUTES)
    def route_harness(self, request: pytest.FixtureRequest, tmp_path: Path) -> ConnectorPair:
        return ALL_ROUTES[request.param](tmp_path)
