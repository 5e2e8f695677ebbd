"""One sampler for a module's inputs: its decoders start once."""

from collections.abc import AsyncIterator

import pytest_asyncio

from daemon.decoding.sampler import Sampler
from tests.corpus.sampling import running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sampler() -> AsyncIterator[Sampler]:
    async with running(deadline_s=120.0) as started:
        yield started
