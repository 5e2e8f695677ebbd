"""Folders, archives and memory keep the contracts."""

from pathlib import Path

import pytest

from connectors.at_least_once import AtLeastOnceRoute
from connectors.folder.route import FolderRoute
from tests.contract.folder_harness import ROUTES, FolderEdge, FolderSinkEdge, MemoryEdge, MemorySinkEdge, RouteEdge
from tests.contract.route_contract import RouteContract
from tests.contract.sink_contract import SinkContract
from tests.contract.source_contract import SourceContract
from tests.contract.tar_harness import TarEdge

pytestmark = pytest.mark.timeout(20)


class TestFolderSource(SourceContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> FolderEdge:
        return FolderEdge(tmp_path)


class TestTarSource(SourceContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> TarEdge:
        return TarEdge(tmp_path)


class TestMemorySource(SourceContract):
    @pytest.fixture
    def harness(self) -> MemoryEdge:
        return MemoryEdge()


class TestFolderSink(SinkContract):
    @pytest.fixture
    def sink_harness(self, tmp_path: Path) -> FolderSinkEdge:
        return FolderSinkEdge(tmp_path)


class TestMemorySink(SinkContract):
    @pytest.fixture
    def sink_harness(self) -> MemorySinkEdge:
        return MemorySinkEdge()


ALL_ROUTES = ROUTES | {
    "tar to files": lambda at: RouteEdge(TarEdge(at), FolderSinkEdge(at), FolderRoute),
    "tar to memory": lambda at: RouteEdge(TarEdge(at), MemorySinkEdge(), AtLeastOnceRoute),
}


class TestRoutes(RouteContract):
    @pytest.fixture(params=ALL_ROUTES)
    def route_harness(self, request: pytest.FixtureRequest, tmp_path: Path) -> RouteEdge:
        return ALL_ROUTES[request.param](tmp_path)
