"""Runs of training, one after the other, in one of several processes that share a model."""

import os

from neva.train import train
from neva.training.config_file import read_training_settings
from neva.training.settings import Stage
from tests.pipeline.training.bench import fresh_accelerate

Planned = tuple[Stage, list[str]]  # a stage and its settings


def run_all(rank: int, processes: int, port: int, plan: list[Planned]) -> None:
    """Train as ``plan`` says, as the process of a rank that torchrun would have started."""
    os.environ |= {
        **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)},
        **{"LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)},
        **{"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    }
    for stage, arguments in plan:
        settings, _ = read_training_settings(None, arguments, stage)
        with fresh_accelerate():
            train(settings, stage)
