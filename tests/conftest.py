"""The surroundings of every test: its log and its scheduling are afterwards as they were."""

import itertools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Several workers compute at a time. Engines that hold as many threads as there are cores, each bound to its core, wait
# for one another in every step: with one thread each a tiny model takes two thirds of the processor time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

from neva import registration

registration.register()  # as the command line does, for the tests that build the daemon's parts themselves

settings.register_profile("captiond", deadline=None)  # a busy machine is no failure
settings.load_profile("captiond")

POLICY = os.sched_getscheduler(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files that wait, Kafka's, in turn with those that compute, the engines', so that workers complement another.

    All others come last: they are short, so at the end no worker is left alone with a long one.
    """
    kinds: dict[Path, str] = {}
    for item in items:
        kind = next((kind for kind in ("kafka", "engine", "slow") if item.get_closest_marker(kind)), "")
        kinds[item.path] = kinds.get(item.path) or kind
    waiting = [path for path, kind in kinds.items() if kind == "kafka"]
    computing = [path for path, kind in kinds.items() if kind in ("engine", "slow")]
    first = [path for pair in itertools.zip_longest(computing, waiting) for path in pair if path is not None]
    place = {path: number for number, path in enumerate(dict.fromkeys([*first, *kinds]))}
    items.sort(key=lambda item: place[item.path])


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what a command that runs inside a test sets up for its log."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(autouse=True)
def scheduled_as_it_was() -> Iterator[None]:
    """Find the test whose libraries gave it real-time priority: all that later tests start would starve the machine."""
    yield
    assert os.sched_getscheduler(0) == POLICY
