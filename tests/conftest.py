"""The surroundings of every test: its log and its scheduling are afterwards as they were."""

import gc
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
WAITING = ("kafka", "streams", "pipeline", "page", "chaos")  # the folders of tests that mostly wait for processes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin two files that wait beside each that starts an engine: engines that start at a time slow one another down.

    All others come last: they are short, so at the end no worker is left alone with a long one.
    """
    computing: dict[Path, None] = {}
    waiting: dict[Path, None] = {}
    others: dict[Path, None] = {}
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        kind = computing if item.get_closest_marker("engine") else waiting if folder in WAITING else others
        kind[item.path] = None
    turns = itertools.zip_longest(computing, *(itertools.islice(waiting, at, None, 2) for at in range(2)))
    first = [path for turn in turns for path in turn if path is not None]
    place = {path: number for number, path in reversed(list(enumerate([*first, *others])))}
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


def pytest_collection_finish() -> None:
    """Leave what the collection made, libraries among it, out of collections of garbage: it stays until the end."""
    gc.collect()
    gc.freeze()
