"""Training on two processes that each hold a share of the model, against one that holds all of it.

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

import numpy as np
import pytest
import torch
from PIL import Image

from neva.checkpoints.model_folder.hf_folder import read_tensors
from neva.training.config_file import read_training_settings
from neva.training.export import served_name
from neva.training.settings import Stage
from testing import tiny_models
from testing.ports import free_port
from tests.pipeline.training.bench import MARKS, fresh_accelerate
from tests.pipeline.training.in_processes import Planned, run_all

pytestmark = [*(mark for mark in MARKS if mark.name != "timeout"), pytest.mark.timeout(1500)]

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

    def losses(self, name: str) -> list[float]:
        lines = (self.folder / name / "log.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]

    def devices(self, name: str) -> list[dict[str, int]]:
        found: list[dict[str, int]] = json.loads((self.folder / name / "devices.json").read_text())["devices"]
        return found

    def tensors(self, name: str) -> dict[str, Any]:
        return dict(read_tensors(self.folder / name / "model"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """One process's run, and that of two with shares."""
    found = Runs(tmp_path_factory.mktemp("runs"))
    found.alone("one")
    found.two(("finetune", found.arguments("two", "trainer.strategy=fsdp2")))
    return found


def test_two_shares_learn_what_the_whole_learns(runs: Runs) -> None:
    whole, shared = runs.losses("one"), runs.losses("two")

    assert len(whole) == len(shared) == STEPS
    assert whole[-1] < 0.5 * whole[0]
    np.testing.assert_allclose(shared, whole, atol=1e-4, rtol=0)


def test_two_shares_export_what_the_whole_exports(runs: Runs) -> None:
    whole, shared = runs.tensors("one"), runs.tensors("two")

    assert whole.keys() == shared.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(shared[name], tensor, rtol=1e-3, atol=1e-4)


def test_a_share_is_half_of_the_whole(runs: Runs) -> None:
    (whole,), shares = runs.devices("one"), runs.devices("two")

    assert len(shares) == 2
    for share in shares:
        assert sum(share.values()) < 0.6 * sum(whole.values())
        assert all(share[kind] < 0.6 * whole[kind] for kind in whole)


def test_the_dry_run_says_what_both_held(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    from neva.training.devices.dry_run import dry_run, in_words

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, keys in (("one", []), ("two", ["trainer.strategy=fsdp2", "trainer.devices=2"])):
        settings, _ = read_training_settings(None, runs.arguments(name, *keys), "finetune")
        said = "\n".join(dry_run(settings, "finetune"))

        fullest = max(runs.devices(name), key=lambda share: sum(share.values()))
        for kind, count in fullest.items():
            assert f"{kind:<12} {in_words(count):>9}" in said
        assert f"{STEPS} steps of 4 samples" in said
        assert "25.0 times the 8 records" in said
        assert f"samples/s, as the run in {runs.folder / name} measured" in said


def test_two_shares_that_were_killed_go_on_as_one_whole(runs: Runs) -> None:
    processes = runs.started([("finetune", runs.arguments("cut", "trainer.strategy=fsdp2"))])
    checkpoints, deadline = runs.folder / "cut" / "checkpoint-finetune", time.monotonic() + _LONG_S
    try:
        while time.monotonic() < deadline and all(process.is_alive() for process in processes):
            if list(checkpoints.glob("*/.metadata")) and len(runs.losses("cut")) >= 12:
                break
            time.sleep(0.02)
    finally:
        for process in processes:
            process.kill()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [-signal.SIGKILL] * 2
    assert len(runs.losses("cut")) < STEPS

    runs.alone("cut")

    np.testing.assert_allclose(runs.losses("cut"), runs.losses("one"), atol=1e-4, rtol=0)
    whole, resumed = runs.tensors("one"), runs.tensors("cut")
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=1e-3, atol=1e-4)
    assert len(runs.devices("cut")) == 1


def test_every_stage_and_part_is_trained_in_shares_too(runs: Runs) -> None:
    """Three runs, each of them against one process's; what is frozen is written bit for bit."""
    from transformers import LlavaForConditionalGeneration

    few, one_each = "trainer.max_steps=3", "model.micro_batch_size=1"
    tower = ["model.mm_cfg.vision_encoder.freeze=false", "model.data.cache_features=false", few]
    again = "model.activations_checkpoint_granularity=full"
    whole: dict[str, tuple[Stage, list[str]]] = {
        "tower": ("finetune", tower),
        "bf16": ("pretrain", [few, "trainer.precision=bf16"]),
    }
    shared = {
        "tower-fsdp2": ("tower", ["trainer.strategy=fsdp2", one_each, again]),
        "tower-ddp": ("tower", ["trainer.strategy=ddp", one_each]),
        "bf16-fsdp2": ("bf16", ["trainer.strategy=fsdp2"]),
    }
    for name, (of, keys) in shared.items():  # a run each: processes that form a second group may meet in the first's
        runs.two((whole[of][0], runs.arguments(name, *whole[of][1], *keys)))

    for name, (stage, keys) in whole.items():
        runs.alone(name, *keys, stage=stage)
    for name, (of, _) in shared.items():
        near = 0.05 if of == "bf16" else 1e-4
        np.testing.assert_allclose(runs.losses(name), runs.losses(of), atol=near, rtol=0)
    before = LlavaForConditionalGeneration.from_pretrained(runs.model).state_dict()
    after = runs.tensors("bf16-fsdp2")
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[served_name(name)])}
    assert changed
    assert all("multi_modal_projector" in name for name in changed)
