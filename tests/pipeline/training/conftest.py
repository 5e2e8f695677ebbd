"""A bench for each test, over one set of clips and conversations a module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.training.bench import Bench, fresh_accelerate, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def own_state() -> Iterator[None]:
    with fresh_accelerate():
        yield


@pytest.fixture
def bench(tmp_path: Path, data: Path) -> Bench:
    return Bench(tmp_path, data)
