"""The samples of a step, and how the processes of a run divide them."""

from connectors.errors import ConfigurationError
from neva.training.settings import ModelSettings


def samples_a_step(model: ModelSettings, processes: int) -> int:
    """Return the number of samples in a step, over all processes."""
    return model.global_batch_size or model.micro_batch_size * processes


def micro_batches(model: ModelSettings, processes: int) -> int:
    """Return the number of micro batches that one process runs in a step.

    Raises:
        ConfigurationError: the samples of a step can't be divided so.
    """
    at_once, wanted = model.micro_batch_size * processes, samples_a_step(model, processes)
    if wanted % at_once:
        raise ConfigurationError(
            f"{wanted} is no multiple of micro_batch_size {model.micro_batch_size} x {processes} processes",
            path="model.global_batch_size",
        )
    return wanted // at_once
