"""What every test needs."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("captiond", deadline=None)  # a busy machine is no failure
settings.load_profile("captiond")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what a command that runs inside a test sets up for its log."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
