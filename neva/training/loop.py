"""The training loop of every stage: steps, learning rate, checkpoints and reports."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from connectors.errors import ConfigurationError
from neva.training.adapters.lora import rate_groups
from neva.training.checkpoint import AdamState, TrainedWeights, load_checkpoint, save_checkpoint
from neva.training.devices.batches import samples_a_step
from neva.training.devices.held_bytes import DEVICES_FILE, held_bytes, write_held_bytes
from neva.training.devices.sharding import shard
from neva.training.devices.strategy import Strategy
from neva.training.freezing import decay_groups
from neva.training.run.progress import TrainingProgress
from neva.training.schedule import make_schedule
from neva.training.settings import OptimSettings, TrainingSettings

if TYPE_CHECKING:
    from neva.training.validation import Validation

# Runs the forward and backward passes of the step of a number; returns its losses by name, for the log.
RunStep = Callable[[int], Mapping[str, torch.Tensor]]
# Takes the module to call, as Accelerate wraps it, and the number of the first step.
MakeRunStep = Callable[[Any, int], RunStep]


@dataclass(slots=True)
class TrainingLoop:
    """The settings, the devices and the reports that all stages of a run share."""

    settings: TrainingSettings
    accelerator: Any
    progress: TrainingProgress
    strategy: Strategy = "ddp"

    @property
    def is_sharded(self) -> bool:
        """Whether each process holds a share of the model only, and all but the first begin without weights."""
        return self.strategy == "fsdp2" and self.accelerator.num_processes > 1

    @property
    def learned_from(self) -> str:
        """The settings that the trained weights depend on, as text; a checkpoint of other settings is not resumed."""
        left_out: Any = {
            "exp_manager": True,
            "import_nemo": {"cache_dir"},
            "trainer": {
                *("log_every_n_steps", "num_threads", "val_check_interval", "limit_val_batches"),
                *("strategy", "devices", "num_nodes"),
            },
            "model": {"micro_batch_size": True, "data": {"num_workers", "validation"}},
        }
        samples = samples_a_step(self.settings.model, self.accelerator.num_processes)
        return f"{samples} samples a step, {self.settings.model_dump_json(exclude=left_out)}"

    def run(
        self,
        stage: str,
        task: torch.nn.Module,
        steps: int,
        begin: MakeRunStep,
        validation: "Validation | None" = None,
    ) -> None:
        """Train ``task`` for ``steps`` steps, from its last checkpoint where there is one.

        ``begin`` is called once and returns the function that runs each step.
        """
        if steps == 0:
            return
        if not any(weight.requires_grad for weight in task.parameters()):
            raise ConfigurationError("every part is frozen: there is nothing to learn", path="model.mm_cfg")
        manager, accelerator = self.settings.exp_manager, self.accelerator
        model = self._placed(task)
        weights = TrainedWeights(task)
        trained = list(weights.named.values())
        groups = rate_groups(weights.named, self.settings.model) or decay_groups(task, self.settings.model)
        optimiser = make_optimiser(groups, self.settings.model.optim)
        schedule = make_schedule(optimiser, self.settings.model.optim, steps)
        checkpoint = manager.exp_dir / f"checkpoint-{stage}"
        kept = {"task": weights, "optimiser": AdamState(optimiser, weights.named), "schedule": schedule}
        first = load_checkpoint(checkpoint, kept, self.learned_from) if manager.resume_if_exists else 0
        model.train()
        self.progress.start(stage, first, steps)
        run_step = begin(model, first)
        for step in range(first, steps):
            losses = run_step(step)
            if self.settings.trainer.gradient_clip_val:
                accelerator.clip_grad_norm_(trained, self.settings.trainer.gradient_clip_val)
            optimiser.step()
            if step == first:
                write_held_bytes(manager.exp_dir / DEVICES_FILE, held_bytes(task, optimiser), accelerator)
            rate = schedule.get_last_lr()[0]
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
            done = step + 1
            if done % self.settings.trainer.log_every_n_steps == 0 or done == steps:
                self.progress.report(done, {name: float(value.detach()) for name, value in losses.items()}, rate)
            if validation is not None and validation.is_due(done, steps):
                self.progress.report_validation(done, validation.loss(model))
            if done % manager.every_n_train_steps == 0 or done == steps:
                save_checkpoint(checkpoint, done, kept, self.learned_from)

    def one_batch_a_step(self, losses: Callable[[Any, int], dict[str, torch.Tensor]]) -> MakeRunStep:
        """Return what begins steps of one batch each: ``losses`` computes a step's from the module, ``loss`` in all."""

        def begin(model: Any, _: int) -> RunStep:
            def run_step(step: int) -> dict[str, torch.Tensor]:
                with self.accelerator.autocast():
                    parts = losses(model, step)
                self.accelerator.backward(parts["loss"])
                return parts

            return run_step

        return begin

    def _placed(self, task: torch.nn.Module) -> Any:
        """Put ``task`` on this process's device, whole or its share of it, and return the module to call."""
        if self.is_sharded:
            shard(task, self.accelerator, bf16=self.settings.trainer.precision == "bf16")
            return task
        return self.accelerator.prepare(task)


def make_optimiser(parameters: list[Any], optim: OptimSettings) -> torch.optim.Optimizer:
    """Return AdamW over ``parameters``, or over groups of them of which each may have a rate of its own."""
    return torch.optim.AdamW(parameters, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay)
