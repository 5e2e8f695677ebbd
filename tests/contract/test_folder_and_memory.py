"""Folders and memory keep the contracts."""

from pathlib import Path

import pytest

from tests.contract.folder_edges import ROUTES, FolderEdge, FolderSinkEdge, MemoryEdge, MemorySinkEdge, RouteEdge
from tests.contract.route_contract import RouteContract
from tests.contract.sink_contract import SinkContract
from tests.contract.source_contract import SourceContract

pytestmark = pytest.mark.timeout(20)


class TestFolderSource(SourceContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> FolderEdge:
        return FolderEdge(tmp_path)


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


class TestRoutes(RouteContract):
    @pytest.fixture(params=ROUTES)
    def route_harness(self, request: pytest.FixtureRequest, tmp_path: Path) -> RouteEdge:
        return ROUTES[request.param](tmp_path)
