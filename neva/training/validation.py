"""Validation: the loss on held-out conversations, at intervals of a run.

It is the mean over all tokens that would be learned, as the loss of training is. The same conversations are asked every
time, chosen by the seed alone, so one value can be compared with the next. Nothing of it changes what is learned.
"""

import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from neva.training.dataset.record_set import RecordSet, read_training_records
from neva.training.dataset.records import RecordRules
from neva.training.samples import IGNORED, Collate, TrainingSet
from neva.training.settings import TrainingSettings

log = logging.getLogger(__name__)


def read_held_out(settings: TrainingSettings, rules: RecordRules, *, told: bool) -> RecordSet | None:
    """Return the records of ``data.validation``; None where none are named, or no batch of them is wanted."""
    paths = settings.model.data.validation.data_paths
    if not paths or not settings.trainer.limit_val_batches:
        return None
    return read_training_records(paths, rules, "model.data.validation.data_path", told=told)


@dataclass(slots=True)
class Validation:
    """The loss on ``data``. A step of training has ``samples`` samples, and an epoch ``epoch_steps`` steps."""

    loop: Any
    data: TrainingSet
    collate: Collate
    samples: int
    epoch_steps: int

    def is_due(self, done: int, steps: int) -> bool:
        """Return whether to validate after ``done`` of ``steps`` steps, as ``trainer.val_check_interval`` says."""
        interval = self.loop.settings.trainer.val_check_interval
        if isinstance(interval, float):
            interval = max(1, int(interval * self.epoch_steps))
        return done % interval == 0 or done == steps

    def loss(self, model: Any) -> float:
        """Return the loss of ``model``, which all processes call together; NaN where nothing could be read."""
        accelerator = self.loop.accelerator
        total = torch.zeros(2, device=accelerator.device, dtype=torch.float64)
        training, _ = model.training, model.eval()
        batches, counted = self._batches()
        with torch.no_grad():
            for number, batch in enumerate(batches):
                batch.pop("unread")
                on_device = {name: tensor.to(accelerator.device) for name, tensor in batch.items()}
                with accelerator.autocast():
                    loss = model(on_device)
                if number < counted:
                    total += torch.stack([loss.double(), (batch["targets"][:, 1:] != IGNORED).sum().to(loss)]).double()
        model.train(training)
        loss, tokens = accelerator.reduce(total, "sum").tolist()
        return loss / tokens if tokens else math.nan

    def close(self) -> None:
        """Close the archive of the media."""
        self.data.media.close()

    def _batches(self) -> tuple[Any, int]:
        """Return this process's batches and how many of them count; all processes have equally many."""
        settings, accelerator = self.loop.settings, self.loop.accelerator
        size, processes = settings.model.micro_batch_size, accelerator.num_processes
        numbers = self._numbers()
        whole = [numbers[at : at + size] for at in range(0, len(numbers), size)]
        mine = whole[accelerator.process_index :: processes]
        counted = len(mine)
        mine += whole[:1] * (-(-len(whole) // processes) - counted)
        # a generator of its own, so that training's random numbers are the same with and without validation
        loader = DataLoader(
            self.data,
            batch_sampler=mine,
            collate_fn=self.collate,
            num_workers=settings.model.data.num_workers,
            generator=torch.Generator(),
        )
        return loader, counted

    def _numbers(self) -> list[int]:
        limit = self.loop.settings.trainer.limit_val_batches
        wanted = int(limit * len(self.data)) if isinstance(limit, float) else limit * self.samples
        order = np.random.default_rng(self.loop.settings.model.seed).permutation(len(self.data))
        return [int(number) for number in np.sort(order[: max(1, wanted)])]
