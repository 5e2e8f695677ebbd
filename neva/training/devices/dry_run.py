"""A dry run: what a training run would need, said before anything is loaded.

It reads configurations, the headers of safetensors and the conversations, and what an earlier run in the same folder
has measured.
"""

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from connectors.errors import ConfigurationError
from neva import registration
from neva.training.devices.batches import micro_batches, samples_a_step
from neva.training.devices.estimate import Estimate, estimate
from neva.training.devices.held_bytes import DEVICES_FILE
from neva.training.devices.strategy import choose_strategy, world_size
from neva.training.settings import TrainingSettings

_UNITS = ("B", "kB", "MB", "GB", "TB")


def dry_run(settings: TrainingSettings, stage: str) -> Iterator[str]:
    """Yield the lines of a report about the run that ``settings`` describe; nothing is loaded or written.

    Raises:
        ConfigurationError: settings, data and parts do not fit each other.
    """
    import transformers

    from neva.training.conversations import facts_of
    from neva.training.model import load_model

    registration.register()
    transformers.utils.logging.disable_progress_bar()
    if not settings.model.data.data_paths:
        raise ConfigurationError("a dry run is about conversations", path="model.data.data_path")
    trainer = settings.trainer
    devices = world_size(trainer.devices, trainer.num_nodes, os.environ)
    strategy = choose_strategy(trainer.strategy, os.environ)
    llava = load_model(settings, facts_of(settings), empty=True)
    needed = estimate(llava, settings, devices, sharded=strategy == "fsdp2" and devices > 1)
    yield from _part_lines(needed)
    yield from _device_lines(needed, devices, strategy)
    yield from _length_lines(settings, devices)
    yield _speed_line(settings, stage, devices)


def in_words(number: float) -> str:
    """Return a number of bytes in the unit that leaves three digits or less before the point.

    >>> in_words(13_476_831_232)
    '13.5 GB'
    """
    unit = 0
    while number >= 999.95 and unit < len(_UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.1f} {_UNITS[unit]}" if unit else f"{number:.0f} B"


def _part_lines(needed: Estimate) -> Iterator[str]:
    for part in needed.parts:
        learns = "trained" if part.trained == part.parameters else f"{part.trained:,} trained"
        said = learns if part.trained else "frozen"
        yield f"{part.name:<15} {part.parameters:>15,} parameters, {said}, {' and '.join(part.types)}"


def _device_lines(needed: Estimate, devices: int, strategy: str) -> Iterator[str]:
    held, sharded = needed.held, strategy == "fsdp2" and devices > 1
    yield f"On each of {devices} devices with {strategy}:" if devices > 1 else "On one device:"
    rows = [("weights", held.weights, ""), ("gradients", held.gradients, ""), ("optimiser", held.optimiser, "")]
    if needed.working:
        rows.append(("gathered" if sharded else "buckets", needed.working, "an estimate"))
    rows.append(("activations", needed.activations, "an estimate, at most: samples as long as the context"))
    for name, count, remark in (*rows, ("in all", needed.total, "")):
        yield f"  {name:<12} {in_words(count):>9}" + (f"  ({remark})" if remark else "")


def _length_lines(settings: TrainingSettings, devices: int) -> Iterator[str]:
    from neva.training.dataset.record_set import read_training_records
    from neva.training.dataset.records import RecordRules

    model, steps = settings.model, settings.trainer.max_steps
    a_step, count = samples_a_step(model, devices), micro_batches(model, devices)
    rules = RecordRules(model.data.media_type, model.conv_template)
    records = len(read_training_records(model.data.data_paths, rules, told=True))
    yield (
        f"{steps:,} steps of {a_step:,} samples ({count} micro batches of {model.micro_batch_size} on each device): "
        f"{steps * a_step:,} samples, {steps * a_step / records:.1f} times the {records:,} records."
    )


def _speed_line(settings: TrainingSettings, stage: str, devices: int) -> str:
    folder = settings.exp_manager.exp_dir
    speed = _measured_steps_per_s(folder / "log.jsonl", stage)
    if not speed:
        return f"Samples a second are not known: no run in {folder} has measured them."
    steps, a_step = settings.trainer.max_steps, samples_a_step(settings.model, devices)
    whole = timedelta(seconds=round(steps / speed))
    line = f"{speed * a_step:.2f} samples/s, as the run in {folder} measured: {whole} for all steps."
    measured = folder / DEVICES_FILE
    if measured.is_file():
        rows = json.loads(measured.read_text(encoding="utf-8"))["devices"]
        fullest = max(sum(row.values()) for row in rows)
        line += f" Its {len(rows)} devices held {in_words(fullest)} at most, without activations."
    return line


def _measured_steps_per_s(log_path: Path, stage: str) -> float | None:
    """Return the speed in the last record of a stage; None where there is none."""
    if not log_path.is_file():
        return None
    records = [json.loads(line) for line in log_path.read_text(encoding="utf-8").splitlines()]
    speeds = [record["steps_per_s"] for record in records if record["stage"] == stage and "steps_per_s" in record]
    return float(speeds[-1]) if speeds else None
