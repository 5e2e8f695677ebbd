"""NeMo's keys that would change what is learned: each is refused unless it asks for nothing, with what to do instead.

What has no effect here is in :mod:`neva.training.run.ignored_keys`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from connectors.errors import ConfigurationError
from neva.training.run.ignored_keys import IGNORED, SIZES, SIZES_REASON


class _Refusal(NamedTuple):
    """The values that a key may have beside null, and the sentence for every other one."""

    allowed: tuple[Any, ...]
    reason: str


_ONE_DEVICE = _Refusal((1,), "the batch is shared among devices, not the layers: write 1")
_NO_DROPOUT = _Refusal((0,), "nothing is dropped out in training: write 0")
_RESUME = _Refusal(
    (),
    "a run goes on from the last checkpoint in exp_manager.exp_dir: name that folder there, or start from a model with "
    "model.restore_from_path",
)

_REFUSED: Mapping[str, _Refusal] = {
    "trainer.max_epochs": _Refusal((-1,), "the length of a run is trainer.max_steps: write -1"),
    "trainer.max_time": _Refusal((), "a run ends after trainer.max_steps; stop it, and it goes on later: leave it out"),
    "trainer.limit_train_batches": _Refusal((1.0,), "a run learns from all of its data: leave it out"),
    "trainer.overfit_batches": _Refusal((0,), "a run learns from all of its data: leave it out"),
    "trainer.accumulate_grad_batches": _Refusal((1,), "it follows from model.global_batch_size: write 1"),
    "trainer.gradient_clip_algorithm": _Refusal(("norm",), "gradients are clipped by their norm: write norm"),
    "exp_manager.ema.enable": _Refusal((False,), "no moving average of the weights is kept: write false"),
    "exp_manager.resume_from_checkpoint": _RESUME,
    "exp_manager.create_early_stopping_callback": _Refusal((False,), "a run ends after trainer.max_steps: write false"),
    "exp_manager.max_time_per_run": _Refusal((), "a run ends after trainer.max_steps: leave it out"),
    "exp_manager.checkpoint_callback_params.save_best_model": _Refusal(
        (False,), "the model of the last step is written: write false, and choose trainer.max_steps by val_loss"
    ),
    "model.strategy": _Refusal((), "trainer.strategy says how devices share the work: leave it out"),
    "model.resume_from_checkpoint": _RESUME,
    "model.tensor_model_parallel_size": _ONE_DEVICE,
    "model.pipeline_model_parallel_size": _ONE_DEVICE,
    "model.context_parallel_size": _ONE_DEVICE,
    "model.expert_model_parallel_size": _ONE_DEVICE,
    "model.virtual_pipeline_model_parallel_size": _ONE_DEVICE,
    "model.fsdp": _Refusal((False,), "write trainer.strategy=fsdp2 instead, and false here"),
    "model.rampup_batch_size": _Refusal((), "every step has model.global_batch_size samples: leave it out"),
    "model.hidden_dropout": _NO_DROPOUT,
    "model.attention_dropout": _NO_DROPOUT,
    "model.ffn_dropout": _NO_DROPOUT,
    "model.fp8": _Refusal((False,), "products in float8 are not offered: write false"),
    "model.fp16_lm_cross_entropy": _Refusal((False,), "the loss is computed in float32: write false"),
    "model.fp32_residual_connection": _Refusal((False,), "residuals have the model's own precision: write false"),
    "model.energon.use_energon": _Refusal((False,), "name the conversations as model.data.data_path: write false"),
    "model.mm_cfg.use_lita": _Refusal((False,), "LITA's time tokens are not trained: plain Video NeVA is"),
    "model.data.packed_sequence": _Refusal((False,), "samples are padded, not packed: write false"),
    "model.data.is_multimodal": _Refusal((True,), "a record without media is text alone: write true"),
    "model.data.sep_image_conv_front": _Refusal((False,), "media are shown where their token stands: write false"),
    "model.data.eod_mask_loss": _Refusal((False,), "the token that ends an answer is learned: write false"),
}

# Keys that say again what another key says.
_SAME = {
    "model.precision": "trainer.precision",
    "model.data.global_batch_size": "model.global_batch_size",
    "model.data.micro_batch_size": "model.micro_batch_size",
}
_SPELLINGS = {"32-true": "32", "bf16-mixed": "bf16", "32.0": "32"}


def at(values: Any, path: str) -> Any:
    """Return the value at a dotted path; None where there is none."""
    for part in path.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def without_nemos_keys(values: Mapping[str, Any]) -> list[str]:
    """Remove NeMo's keys that have no effect here; return lines for the log that name them.

    Raises:
        ConfigurationError: a key would change what is learned; the message says what to do instead.
    """
    _compare(values)
    lines = [*_refuse(values), *_ignore(values)]
    model = values.get("model")
    if isinstance(model, dict) and at(model, "data.data_path") is not None:
        lines += _removed(model, "model", dict.fromkeys(SIZES, SIZES_REASON))
    return lines


def _compare(values: Mapping[str, Any]) -> None:
    for path, other in _SAME.items():
        said, wanted = at(values, path), at(values, other)
        if said is None or wanted is None:
            continue
        if _SPELLINGS.get(str(said), str(said)) != _SPELLINGS.get(str(wanted), str(wanted)):
            raise ConfigurationError(f"{other} says {wanted}: write the same, or leave it out", path=path)


def _refuse(values: Mapping[str, Any]) -> Iterator[str]:
    """Refuse what is asked for and not done; remove keys that ask for nothing, and yield a line that names them."""
    off = []
    for path, refusal in _REFUSED.items():
        parent, _, key = path.rpartition(".")
        section = at(values, parent)
        if not isinstance(section, dict) or key not in section:
            continue
        asked = section.pop(key)
        if asked is not None and not any(_same(asked, allowed) for allowed in refusal.allowed):
            raise ConfigurationError(refusal.reason, path=path)
        off.append(path)
    if off:
        yield f"Ignored, because that is so here anyway: {', '.join(off)}."


def _same(asked: Any, allowed: Any) -> bool:
    return asked == allowed and isinstance(asked, bool) == isinstance(allowed, bool)


def _ignore(values: Mapping[str, Any]) -> Iterator[str]:
    for path, reasons in IGNORED.items():
        section = at(values, path)
        if isinstance(section, dict):
            yield from _removed(section, path, reasons)


def _removed(section: dict[str, Any], path: str, reasons: Mapping[str, str]) -> Iterator[str]:
    """Remove the keys of a section that have a reason, and yield a line for each reason."""
    found: dict[str, list[str]] = {}
    for key in [key for key in section if key in reasons]:
        del section[key]
        found.setdefault(reasons[key], []).append(f"{path}.{key}")
    for reason, keys in found.items():
        yield f"Ignored, because {reason}: {', '.join(keys)}."
