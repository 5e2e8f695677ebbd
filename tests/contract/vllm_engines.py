"""Tiny models in the real vLLM, for the tests that are marked ``engine``."""

import asyncio
import gc
import os
import signal
import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from daemon.config.engine_settings import VllmSettings
from daemon.engines.vllm.args import ENVIRONMENT
from daemon.engines.vllm.engine import VllmEngine
from testing.ports import free_port

# what the modules of tests over the real vLLM are marked with; model libraries warn of themselves when imported
MARKS = [
    pytest.mark.engine,
    pytest.mark.timeout(560),
    pytest.mark.asyncio(loop_scope="module"),
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning", "UserWarning")),
    pytest.mark.filterwarnings("ignore:Unclosed context:ResourceWarning"),
]
MAX_MODEL_LEN = 1024
MAX_FRAMES = 8


def settings(model: Path, **changes: Any) -> VllmSettings:
    """Return what makes a tiny model start fast and compute exactly."""
    args = {"enforce-eager": True, "max-num-seqs": 4, **changes.pop("args", {})}
    fitted = {"dtype": "float32", "max_model_len": MAX_MODEL_LEN, **changes}
    return VllmSettings(model=str(model), args=args, **fitted)


@asynccontextmanager
async def running(
    model: Path, *, max_frames: int = MAX_FRAMES, names_windows: bool = False, **changes: Any
) -> AsyncIterator[VllmEngine]:
    """Run a tiny model until the block ends."""
    engine = VllmEngine(settings(model, **changes), max_frames=max_frames, names_windows=names_windows)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()
        del engine
        collect_quietly()


@asynccontextmanager
async def serving(model: Path, port: int | None = None, *flags: str) -> AsyncIterator[str]:
    """Run vLLM's own server over a tiny model, called ``tiny``, on loopback; its address comes before it answers."""
    port = port or free_port()
    options = {
        "model": model,
        "served-model-name": "tiny",
        "host": "127.0.0.1",
        "port": port,
        "dtype": "float32",
        "max-model-len": MAX_MODEL_LEN,
        "max-num-seqs": 4,
        "limit-mm-per-prompt": f'{{"image": {MAX_FRAMES}}}',
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager", *flags]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    environment = {**os.environ, **ENVIRONMENT, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    server = await asyncio.create_subprocess_exec(*command, env=environment, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        await server.wait()


def collect_quietly() -> None:
    """Collect what vLLM leaves behind now, where nobody minds its warning about an open ZeroMQ context."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
