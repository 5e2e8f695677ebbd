"""Runs of the second stage on a tiny LLaVA, by this process alone or by two that share the model.

The processes are real ones that talk by gloo. They are forked from a server that has imported everything, and are told
of each other as torchrun tells them.
"""

import json
import multiprocessing
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from PIL import Image

from neva.checkpoints.model_folder.hf_folder import read_tensors
from neva.training.config_file import read_training_settings
from neva.training.settings import Stage
from testing import tiny_models
from testing.ports import free_port
from tests.pipeline.training.bench import fresh_accelerate
from tests.pipeline.training.in_processes import Planned, run_all

STEPS = 50
_LONG_S = 600  # of one run, on a machine with far more to do than it can
_IMPORTED = ("neva.train", "tests.pipeline.training.in_processes", "transformers.models.llava.modeling_llava")


def write_images(folder: Path) -> None:
    """Write eight pictures of one colour each, and a conversation about each."""
    records = []
    for number in range(8):
        Image.new("RGB", (56, 56), (30 * number, 200 - 20 * number, 90)).save(folder / f"{number}.png")
        said = [{"from": "human", "value": "<image>Which?"}, {"from": "gpt", "value": f"Number {number * 37}."}]
        records.append({"image": f"{number}.png", "conversations": said})
    (folder / "data.json").write_text(json.dumps(records))


class Runs:
    """Runs of the second stage on a tiny LLaVA, in folders of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_images(folder)
        self.model = tiny_models.build("llava", folder)

    def arguments(self, name: str, *overrides: str) -> list[str]:
        return [
            f"exp_manager.exp_dir={self.folder / name}",
            f"model.restore_from_path={self.model}",
            *(f"trainer.max_steps={STEPS}", "trainer.log_every_n_steps=1", "trainer.num_threads=1"),
            *("trainer.precision=32", "model.micro_batch_size=2", "model.global_batch_size=4"),
            *("model.mm_cfg.llm.model_type=mistral", "model.data.cache_features=true"),
            *("model.optim.lr=3e-3", "model.optim.sched.min_lr=1e-4", "model.optim.sched.warmup_steps=5"),
            "exp_manager.every_n_train_steps=10",
            *("model.data.num_workers=0", "model.data.media_type=image"),
            *(f"model.data.data_path={self.folder / 'data.json'}", f"model.data.image_folder={self.folder}"),
            *overrides,
        ]

    def alone(self, name: str, *overrides: str, stage: Stage = "finetune") -> None:
        """Run in this process."""
        from neva.train import train

        settings, _ = read_training_settings(None, self.arguments(name, *overrides), stage)
        with fresh_accelerate():
            train(settings, stage)

    def started(self, plan: list[Planned]) -> list[BaseProcess]:
        """Start two processes that run ``plan``."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(_IMPORTED))
        port = free_port()
        processes = [context.Process(target=run_all, args=(rank, 2, port, plan)) for rank in range(2)]
        for process in processes:
            process.start()
        return list(processes)

    def two(self, *plan: Planned) -> None:
        """Run in two processes to the end."""
        processes = self.started(list(plan))
        try:
            for process in processes:
                process.join(_LONG_S)
        finally:
            for process in processes:
                process.kill()
                process.join()
        assert [process.exitcode for process in processes] == [0, 0]

    def cut_off(self, name: str, *overrides: str, after: int, stage: Stage = "finetune") -> None:
        """Run in two processes, and kill both with a checkpoint written and ``after`` steps done."""
        processes = self.started([(stage, self.arguments(name, *overrides))])
        checkpoints, deadline = self.folder / name / f"checkpoint-{stage}", time.monotonic() + _LONG_S
        try:
            while time.monotonic() < deadline and all(process.is_alive() for process in processes):
                if list(checkpoints.glob("*/.metadata")) and len(self.losses(name)) >= after:
                    break
                time.sleep(0.02)
        finally:
            for process in processes:
                process.kill()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [-signal.SIGKILL] * 2

    def losses(self, name: str) -> list[float]:
        lines = (self.folder / name / "log.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]

    def devices(self, name: str) -> list[dict[str, int]]:
        found: list[dict[str, int]] = json.loads((self.folder / name / "devices.json").read_text())["devices"]
        return found

    def tensors(self, name: str, folder: str = "model") -> dict[str, Any]:
        return dict(read_tensors(self.folder / name / folder))
