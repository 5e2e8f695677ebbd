"""Several runs of training, one after the other, in each of the processes that torchrun starts.

torchrun --standalone --nproc-per-node 2 -m tests.pipeline.training.in_processes RUNS.json
"""

import json
import sys
from pathlib import Path

from neva.train import train
from neva.training.config_file import read_training_settings
from tests.pipeline.training.bench import fresh_accelerate


def main() -> None:
    """Train as each entry of the file says: a stage, and its settings."""
    for stage, arguments in json.loads(Path(sys.argv[1]).read_text()):
        settings, _ = read_training_settings(None, arguments, stage)
        with fresh_accelerate():
            train(settings, stage)


if __name__ == "__main__":
    main()
