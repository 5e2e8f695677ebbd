"""Each family's tiny model in the real vLLM, started once: the table of models, and the contract of engines."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from daemon.engines.vllm.engine import VllmEngine
from tests.contract.vllm_engines import MARKS
from tests.families.registry import FAMILIES
from tests.families.started import Started, starting
from tests.families.suite import FamilyEngineContract, FamilySuite

pytestmark = [*MARKS, pytest.mark.families]


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[pytest.param(one, id=one.model) for one in FAMILIES if not one.started_by],
)
async def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Started]:
    async with starting(request.param, tmp_path_factory.mktemp("models")) as one:
        yield one


@pytest.fixture
def engine(started: Started) -> VllmEngine:
    if started.engine is None:
        pytest.skip("it has no engine here")
    return started.engine


class TestFamily(FamilySuite):
    pass


class TestTinyModels(FamilyEngineContract):
    pass
