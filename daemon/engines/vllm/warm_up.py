"""The warm-up: an engine describes black windows of the shapes that will come, so that the first clips pay for nothing.

What is compiled or allocated at the first request of a shape happens here, before READY, and so does its failure.
"""

import asyncio
from collections.abc import Iterator
from itertools import islice

from connectors.errors import ConfigurationError, EngineLost, Poison, Reason, Transient
from daemon.engines.contract import Engine
from daemon.engines.model.media_form import black_frames
from daemon.engines.model.token_planner import ModelTokenPlanner
from daemon.engines.model.window_shapes import SMALL, ExpectedWindows, WindowShape
from daemon.engines.vllm.budget import TRIAL

_MOST_SHAPES = 4  # a source may have its own number of frames; more shapes than this make a start longer than they save
_MOST_BYTES = 2**28  # of one window; 80 frames of 1280 x 720 are 211 MiB


async def warm_up(engine: Engine, planner: ModelTokenPlanner, windows: ExpectedWindows, *, replicas: int = 1) -> None:
    """Describe one window of each shape that will come, and one of as many frames as there may be, once a replica.

    Raises:
        ConfigurationError: the engine can't describe so many frames, however small.
        EngineLost: it gave no answer.
    """
    for number, shape in enumerate(await asyncio.to_thread(lambda: list(_shapes(planner, windows)))):
        frames = black_frames(shape.num_frames, shape.height, shape.width)
        names = [f"warm-up/{number}/{replica}" for replica in range(replicas)]
        try:  # at once, so that vLLM gives one to each
            await asyncio.gather(*(engine.describe(frames, TRIAL, name) for name in names))
        except Poison as fault:
            if fault.reason == Reason.PROMPT:  # a model without a chat template is warmed up by its first clip
                return
            raise ConfigurationError(f"it can't describe {shape}: {fault.detail}", path="engine") from fault
        except Transient as fault:
            raise EngineLost(f"the engine did not answer the warm-up of {shape}: {fault.detail}") from fault


def _shapes(planner: ModelTokenPlanner, windows: ExpectedWindows) -> Iterator[WindowShape]:
    """Yield what is described: the largest windows that fit, of each number of frames."""
    counts = set[int]()
    for shape in islice(windows.shapes(planner.max_frame_size, planner.frame_size), _MOST_SHAPES):
        counts.add(shape.num_frames)
        yield _fitting(planner, shape)
    if windows.max_frames not in counts:
        yield WindowShape(windows.max_frames, SMALL.height, SMALL.width)


def _fitting(planner: ModelTokenPlanner, shape: WindowShape) -> WindowShape:
    """Return the shape with frames halved until it fits; with small ones where it never does: the engine says why."""
    smaller: WindowShape | None = shape
    while smaller is not None:
        if smaller.size_bytes <= _MOST_BYTES and _fits(planner, smaller):
            return smaller
        smaller = smaller.smaller()
    return WindowShape(shape.num_frames, SMALL.height, SMALL.width)


def _fits(planner: ModelTokenPlanner, shape: WindowShape) -> bool:
    try:
        planner.check(TRIAL, shape.num_frames, shape.height, shape.width)
    except Poison:
        return False
    return True
