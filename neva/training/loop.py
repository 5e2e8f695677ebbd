"""The loop that every stage of training runs: steps, the learning rate, checkpoints, and what a person sees of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from connectors.errors import ConfigurationError
from neva.training.checkpoint import load_checkpoint, save_checkpoint
from neva.training.progress import TrainingProgress
from neva.training.settings import OptimSettings, TrainingSettings

# One step: forward and backward passes over its samples; returns the losses by name, for the log.
Learn = Callable[[int], Mapping[str, torch.Tensor]]
# Given the module to call (as Accelerate wraps it) and the first step to make, returns what makes a step.
Begin = Callable[[Any, int], Learn]


class TrainedWeights:
    """The weights of a module that are trained: what a checkpoint holds of it, for the others are where they were."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._named = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return them by name."""
        return {name: weight.detach() for name, weight in self._named.items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take them back."""
        with torch.no_grad():
            for name, weight in self._named.items():
                weight.copy_(state[name])


@dataclass(slots=True)
class TrainingLoop:
    """What the stages of a run share."""

    settings: TrainingSettings
    accelerator: Any
    progress: TrainingProgress

    @property
    def learned_from(self) -> str:
        """All settings that what is learned depends on; a checkpoint made with others is not gone on with."""
        left_out: Any = {
            "exp_manager": True,
            "trainer": {"log_every_n_steps", "num_threads"},
            "model": {"micro_batch_size": True, "data": {"num_workers"}},
        }
        samples = self.settings.model.global_batch_size or (
            self.settings.model.micro_batch_size * self.accelerator.num_processes
        )
        return f"{samples} samples a step, {self.settings.model_dump_json(exclude=left_out)}"

    def run(self, stage: str, task: torch.nn.Module, steps: int, begin: Begin) -> None:
        """Train ``task`` for ``steps`` steps, from its last checkpoint where there is one."""
        if steps == 0:
            return
        trained = [weight for weight in task.parameters() if weight.requires_grad]
        if not trained:
            raise ConfigurationError("every part is frozen: there is nothing to learn", path="model.mm_cfg")
        manager, accelerator = self.settings.exp_manager, self.accelerator
        optimiser = make_optimiser(trained, self.settings.model.optim)
        schedule = make_schedule(optimiser, self.settings.model.optim, steps)
        model, optimiser = accelerator.prepare(task, optimiser)
        checkpoint = manager.exp_dir / f"checkpoint-{stage}.pt"
        kept = {"task": TrainedWeights(task), "optimiser": optimiser, "schedule": schedule}
        first = load_checkpoint(checkpoint, kept, self.learned_from) if manager.resume_if_exists else 0
        model.train()
        self.progress.start(stage, first, steps)
        learn = begin(model, first)
        for step in range(first, steps):
            losses = learn(step)
            if self.settings.trainer.gradient_clip_val:
                accelerator.clip_grad_norm_(trained, self.settings.trainer.gradient_clip_val)
            optimiser.step()
            rate = schedule.get_last_lr()[0]
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
            done = step + 1
            if done % self.settings.trainer.log_every_n_steps == 0 or done == steps:
                self.progress.report(done, {name: float(value.detach()) for name, value in losses.items()}, rate)
            if accelerator.is_main_process and (done % manager.every_n_train_steps == 0 or done == steps):
                save_checkpoint(checkpoint, done, kept, self.learned_from)


def make_optimiser(parameters: list[Any], optim: OptimSettings) -> torch.optim.Optimizer:
    """Return AdamW over ``parameters``."""
    return torch.optim.AdamW(parameters, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay)


def make_schedule(optimiser: torch.optim.Optimizer, optim: OptimSettings, steps: int) -> Any:
    """Return the learning rate's course over ``steps``: up from near 0 over the warm-up, down a cosine to the least.

    The warm-up takes at most a quarter of the steps; the last ``constant_steps`` stay at the least rate.
    """
    warmup = min(optim.sched.warmup_steps, steps // 4)
    least = optim.sched.min_lr / optim.lr
    falling = max(1, steps - warmup - optim.sched.constant_steps)

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        over = min(1.0, (step - warmup) / falling)
        return least + (1 - least) * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * over))))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, share)
