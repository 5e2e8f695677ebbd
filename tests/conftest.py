"""The surroundings of every test: its log and its scheduling are afterwards as they were."""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from neva import registration

registration.register()  # as the command line does, for the tests that build the daemon's parts themselves

settings.register_profile("captiond", deadline=None)  # a busy machine is no failure
settings.load_profile("captiond")

POLICY = os.sched_getscheduler(0)


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
