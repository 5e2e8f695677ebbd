"""What fuzzing found worth keeping does no harm: each input ends as a rejection at worst."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import tests.fuzz
from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS

CORPUS = Path(tests.fuzz.__file__).parent / "corpus"


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Log nothing, as while fuzzing: names that are not UTF-8 can't go from one of pytest's processes to another."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def test_each_target_has_seeds_and_a_corpus() -> None:
    assert set(SEEDS) == set(TARGETS)
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    assert all(any((CORPUS / target).iterdir()) for target in TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_does_no_harm(target: str) -> None:
    for data in [*SEEDS[target](), *(path.read_bytes() for path in sorted((CORPUS / target).iterdir()))]:
        TARGETS[target](data)
