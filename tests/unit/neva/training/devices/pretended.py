"""A process group that only pretends: one process holds the share that it would hold among many."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import distributed


@contextmanager
def pretended(processes: int) -> Iterator[Any]:
    """Be the first of ``processes`` that nobody else is one of."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=processes)
    try:
        yield SimpleNamespace(device=torch.device("cpu"), num_processes=processes)
    finally:
        distributed.destroy_process_group()
