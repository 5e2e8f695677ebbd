"""The learning rate at every step, as NeMo's ``CosineAnnealing`` has it."""

import logging
import math
from typing import Any

import torch

from connectors.errors import ConfigurationError
from neva.training.settings import OptimSettings, ScheduleSettings

log = logging.getLogger(__name__)


def rate_at(step: int, steps: int, highest: float, sched: ScheduleSettings) -> float:
    """Return the rate of step ``step`` of ``steps``, counted from 0.

    It rises to ``highest`` in a line during ``warmup_steps``, falls to ``min_lr`` in half a cosine, and stays there for
    the last ``constant_steps``. Without constant steps the line begins a step above 0, with some it begins at 0.
    """
    warmup, constant, lowest = sched.warmup_steps, sched.constant_steps, sched.min_lr
    if step <= warmup and warmup > 0:
        return highest * step / warmup if constant else highest * ((step + 1) / (warmup + 1))
    falling = steps - warmup - constant
    if step > steps or step - warmup > falling or falling == 0:
        return lowest
    # the order of operations is NeMo's in either case, to the last bit
    if constant:
        return lowest + 0.5 * (math.cos(math.pi * ((step - warmup) / falling)) + 1.0) * (highest - lowest)
    return (highest - lowest) * (0.5 * (1 + math.cos(math.pi * (step - warmup) / falling))) + lowest


class CosineAnnealing(torch.optim.lr_scheduler.LRScheduler):  # type: ignore[misc]
    """Sets the rate of each group of an optimiser's parameters; a group's own rate is its highest."""

    def __init__(self, optimiser: torch.optim.Optimizer, sched: ScheduleSettings, steps: int) -> None:
        self._sched, self._steps = sched, steps
        super().__init__(optimiser)

    def get_lr(self) -> list[float]:
        """Return the rates of the step that comes next."""
        return [rate_at(self.last_epoch, self._steps, rate, self._sched) for rate in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the schedule; its settings are the run's."""
        kept = ("last_epoch", "base_lrs", "_last_lr", "_step_count")
        return {name: getattr(self, name) for name in kept}


def make_schedule(optimiser: torch.optim.Optimizer, optim: OptimSettings, steps: int) -> CosineAnnealing:
    """Return the schedule of a run of so many steps.

    Raises:
        ConfigurationError: the lowest rate is above the highest.
    """
    sched = optim.sched
    if sched.min_lr > optim.lr:
        raise ConfigurationError(f"{sched.min_lr} is above optim.lr, {optim.lr}", path="model.optim.sched.min_lr")
    if sched.warmup_steps >= steps:
        log.warning(
            "optim.sched.warmup_steps (%d) is not below trainer.max_steps (%d): the rate rises to the end and "
            "reaches %.2g of %.2g.",
            *(sched.warmup_steps, steps, rate_at(max(0, steps - 1), steps, optim.lr, sched), optim.lr),
        )
    return CosineAnnealing(optimiser, sched, steps)
