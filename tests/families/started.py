"""A family's tiny model, loaded and started as far as it goes."""

import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from connectors.errors import ConfigurationError, EngineLost
from daemon.engines.model.token_planner import ModelTokenPlanner
from daemon.engines.vllm.engine import VllmEngine
from daemon.engines.vllm.load import load_model
from testing import tiny_models
from tests.contract.vllm_engines import collect_quietly, running, settings
from tests.families.family import Family

_ERROR = re.compile(r"\b(?:\w+\.)*\w*(?:Error|Exception)\b: .+")


@dataclass(frozen=True)
class Started:
    """What came of a family's tiny model: its planner where it loads, its engine where it runs, else what was said."""

    family: Family
    folder: Path
    planner: ModelTokenPlanner | None = None
    engine: VllmEngine | None = None
    error: str = ""


@asynccontextmanager
async def starting(family: Family, parent: Path) -> AsyncIterator[Started]:
    """Build, load and start a family's tiny model, and stop it when the block ends."""
    folder = tiny_models.build(family.model, parent)
    changes = {"args": dict(family.args), "max_model_len": family.max_model_len, "dtype": family.dtype}
    try:
        planner = load_model(settings(folder, **changes), family.max_frames).planner
    except ConfigurationError as error:
        yield Started(family, folder, error=str(error))
        return
    running_engine, error = running(folder, max_frames=family.max_frames, **changes), ""
    engine: VllmEngine | None = None
    with _errors_kept() as said:
        try:
            engine = await running_engine.__aenter__()
        except (ConfigurationError, EngineLost) as fault:
            error = _cause(said) or str(fault)
    collect_quietly()  # what an engine that did not start left behind
    try:
        yield Started(family, folder, planner, engine, error)
    finally:
        if engine is not None:
            del engine
            await running_engine.__aexit__(None, None, None)


@contextmanager
def _errors_kept() -> Iterator[Path]:
    """Send what this process and its children print to a file until the block ends: vLLM logs to standard output."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.NamedTemporaryFile(prefix="captiond-family-", suffix=".log") as file:
        kept = {stream: os.dup(stream) for stream in (1, 2)}
        for stream in kept:
            os.dup2(file.fileno(), stream)
        try:
            yield Path(file.name)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, before in kept.items():
                os.dup2(before, stream)
                os.close(before)


def _cause(said: Path) -> str:
    """Return the first error of a log: those that follow only say that the engine is gone."""
    found = _ERROR.search(said.read_text(errors="replace"))
    return found.group() if found else ""
