"""A clip of five hundred frames in groups of several sizes, and a session over it."""

import os
from collections.abc import Iterator

import pytest

from daemon.decoding.child.session import plan
from daemon.frame_look import FrameSize
from tests.corpus.clips import Recipe, Truth, make
from tests.corpus.painted import HEIGHT, WIDTH
from tests.unit.daemon.decoding.child.counting import FRAMES, LIMITS, CountingSession


@pytest.fixture(scope="module", params=[10, 50, 500])
def truth(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    options = {"g": str(request.param), "bf": "2", "x264-params": f"keyint={request.param}:scenecut=0"}
    return make(tmp_path_factory.mktemp("clips") / "clip", Recipe(frames=FRAMES, options=options))


@pytest.fixture
def session(truth: Truth) -> Iterator[CountingSession]:
    descriptor = os.open(truth.path, os.O_RDONLY)
    _, index = plan(descriptor, LIMITS, lambda: None)
    opened = CountingSession(descriptor, "av", index, FrameSize(WIDTH, HEIGHT), LIMITS)
    opened.index_of_clip = index  # type: ignore[attr-defined]
    yield opened
    opened.close()
