"""The choice of where an engine's windows are rendered, and how many renderers it has."""

import logging
from collections.abc import Mapping
from typing import Any, Literal

from connectors.errors import ConfigurationError, Transient
from daemon.config.chosen import this_machine
from daemon.engines.rendering.in_process import InProcessRenderer, Rendering
from daemon.engines.rendering.pool import RendererPool
from daemon.engines.vllm import library

log = logging.getLogger(__name__)

_FEWEST_CORES = 4  # on fewer a renderer only takes time from the decoders
_LEAST_MEMORY = 8 * 2**30
_MEMORY_EACH = 2 * 2**30  # for each renderer: the libraries, and a window or two
_CORES_EACH = 6  # of these one renders and five decode: what 80 frames of 1080p cost
_MOST = 16


def how_many(asked: int | Literal["auto"], cores: int, memory: int) -> int:
    """Return how many renderers an engine has, never more than cores; 0 is a thread of this process."""
    if asked != "auto":
        return min(asked, cores)
    if cores < _FEWEST_CORES or memory < _LEAST_MEMORY:
        return 0
    return max(1, min(cores // _CORES_EACH, memory // _MEMORY_EACH // 2, _MOST))


async def start_rendering(
    llm: Any, asked: int | Literal["auto"], environment: Mapping[str, str], deadline_s: float
) -> Rendering:
    """Start the renderers of an engine that runs.

    Raises:
        ConfigurationError: processes are asked for by number, and can't be had.
    """
    configuration = llm.vllm_config
    machine, tied = this_machine(), library.renders_itself(configuration)
    count = how_many(asked, machine.cores, machine.memory_bytes)
    if tied and count and asked != "auto":
        raise ConfigurationError(f"engine.args.{tied} needs renderers: 0", path="engine.renderers")
    if asked != "auto" and count < asked:
        log.warning("engine.renderers is %d, and there are %d cores: so many are started.", asked, count)
    if count and not tied:
        pool = RendererPool(count, library.packed_configuration(configuration), environment, deadline_s)
        try:
            await pool.start()
        except Transient as fault:
            if asked != "auto":
                raise ConfigurationError(
                    f"a renderer does not start: {fault.detail}", path="engine.renderers"
                ) from fault
            log.warning("No renderer starts (%s): windows are rendered in this process.", fault.detail)
        else:
            return pool
    return InProcessRenderer(llm.renderer, deadline_s)
