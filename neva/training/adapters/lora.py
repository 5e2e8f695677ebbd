"""LoRA, by peft: an adapter that learns in the language model's place, beside the projector.

peft puts the adapter's layers into the model itself, so a task, a checkpoint and a sharded model know nothing of them.
What is exported comes from the model's state alone: the adapter, the model with it merged, and the model below it.

NeMo has one pair of matrices for queries, keys and values together, and one for both halves of the MLP's first layer.
``variant: nemo`` keeps that: the modules that Hugging Face has in their place share the matrix on the input's side.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch

from connectors.errors import ConfigurationError
from daemon.engines.model.lora_adapter import CONFIG, WEIGHTS
from neva.checkpoints.lora import with_adapter
from neva.checkpoints.model_folder.new_folder import new_folder
from neva.checkpoints.model_folder.weight_files import gathered
from neva.training.adapters.settings import MODULES, PROJECTOR_SHARE, InitMethod, LoraSettings, PeftSettings
from neva.training.settings import ModelSettings

_NAME = "default"  # peft's name for the only adapter of a model
_BASE, _IN, _OUT = ".base_layer.", f".lora_A.{_NAME}.", f".lora_B.{_NAME}."
_PROJECTOR = "multi_modal_projector."

State = Mapping[str, Any]


def add_adapter(model: Any, settings: PeftSettings) -> None:
    """Put an adapter into the language model of ``model`` where the settings ask for one; what else learns stays so.

    Raises:
        ConfigurationError: the adapter to go on with does not fit, or no module is one that gets an adapter.
    """
    lora = settings.lora
    if lora is None:
        return
    from peft import LoraConfig, inject_adapter_in_model

    layers = len(model.model.language_model.layers)
    if lora.layer_selection and max(lora.layer_selection) > layers:
        raise ConfigurationError(
            f"the language model has {layers} layers", path="model.peft.lora_tuning.layer_selection"
        )
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    config = LoraConfig(
        r=lora.adapter_dim,
        lora_alpha=lora.adapter_dim if lora.alpha is None else lora.alpha,
        lora_dropout=lora.adapter_dropout,
        target_modules=_target(lora),
    )
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:  # no module has such a name
        raise ConfigurationError(str(error), path="model.peft.lora_tuning.target_modules") from error
    for weight in trained:  # peft freezes all but the adapter
        weight.requires_grad_(True)
    _begin(model, lora)
    if settings.restore_from_path is not None:
        _restore(model, Path(settings.restore_from_path), lora)


def _target(lora: LoraSettings) -> str:
    """Return the pattern of the modules that get an adapter: those of the language model, and none of the tower."""
    layers = "|".join(str(layer - 1) for layer in lora.layer_selection or ()) or r"\d+"
    return rf"(.*\.)?language_model\.layers\.({layers})\.(self_attn|mlp)\.({'|'.join(lora.modules)})"


def _adapted(model: Any) -> dict[str, Any]:
    """Return the modules that have an adapter, by their names."""
    return {name: module for name, module in model.named_modules() if _NAME in getattr(module, "lora_A", ())}


def adapter_weights(model: Any) -> list[Any]:
    """Return the weights of the adapter of ``model``, each of them once."""
    return [weight for name, weight in model.named_parameters() if _IN in name or _OUT in name]


def _begin(model: Any, lora: LoraSettings) -> None:
    """Give the adapter its first weights, in float32; ``variant: nemo`` shares those on the input's side."""
    part_of = {module: part for part, modules in MODULES.items() for module in modules}
    first: dict[tuple[str, str], Any] = {}
    for name, module in _adapted(model).items():
        parent, _, own = name.rpartition(".")
        inner, outer = module.lora_A[_NAME].float(), module.lora_B[_NAME].float()
        _initialise(inner.weight, lora.column_init_method)
        _initialise(outer.weight, lora.row_init_method)
        if lora.variant == "nemo":
            inner.weight = first.setdefault((parent, part_of[own]), inner.weight)


def _initialise(weight: torch.Tensor, method: InitMethod) -> None:
    match method:
        case "xavier":
            torch.nn.init.xavier_normal_(weight)
        case "normal":
            torch.nn.init.normal_(weight, std=0.2)
        case "kaiming":
            torch.nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        case "zero":
            torch.nn.init.zeros_(weight)


def _restore(model: Any, folder: Path, lora: LoraSettings) -> None:
    """Copy an earlier run's adapter into the one of the model."""
    from safetensors.torch import load_file

    key = "model.peft.restore_from_path"
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise ConfigurationError(
            f"{folder} is no folder with an adapter; one in a .nemo is merged with `import-nemo` first", path=key
        )
    config = json.loads((folder / CONFIG).read_text())
    if not math.isclose(float(config["lora_alpha"]) / int(config["r"]), lora.scale):
        raise ConfigurationError(f"it counts {config['lora_alpha']}/{config['r']}, not {lora.scale:g}", path=key)
    stored, state = load_file(folder / WEIGHTS), model.state_dict()
    wanted = {name: state[own] for own, name in _adapter_names(state).items()}
    if {name: tensor.shape for name, tensor in stored.items()} != {n: t.shape for n, t in wanted.items()}:
        raise ConfigurationError(f"{folder} holds an adapter of other modules, or of another rank", path=key)
    if any(weight.is_meta for weight in wanted.values()):  # its weights come from the first process
        return
    with torch.no_grad():
        for name, weight in wanted.items():
            weight.copy_(stored[name])
    if any(not torch.equal(weight, stored[name].to(weight.dtype)) for name, weight in wanted.items()):
        raise ConfigurationError(
            "its queries, keys and values share no matrix: write lora_tuning.variant: canonical", path=key
        )


def _adapter_names(state: State) -> dict[str, str]:
    """Return the adapter's weights in a model's state: their names there, and those that peft saves them under."""
    return {
        name: f"base_model.model.{name.replace(f'.{_NAME}.', '.')}" for name in state if _IN in name or _OUT in name
    }


def rate_groups(trained: State, settings: ModelSettings) -> list[dict[str, Any]]:
    """Return ``trained`` weights in groups of one learning rate: the projector has a tenth of the adapter's.

    The adapter's group is the first one. Without an adapter there are no groups.
    """
    if settings.peft.lora is None:
        return []
    projector = [weight for name, weight in trained.items() if _PROJECTOR in name]
    others = [weight for name, weight in trained.items() if _PROJECTOR not in name]
    groups = [{"params": others, "lr": settings.optim.lr}]
    return [*groups, {"params": projector, "lr": settings.optim.lr * PROJECTOR_SHARE}] if projector else groups


class LazyState(Mapping[str, Any]):
    """A state whose tensors are made, or gathered from all processes, when they are asked for; none of them is kept."""

    def __init__(self, make: Mapping[str, Callable[[], Any]]) -> None:
        self._make = make

    def __getitem__(self, name: str) -> Any:
        return self._make[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._make)

    def __len__(self) -> int:
        return len(self._make)


def merged(state: State, settings: PeftSettings) -> State:
    """Return a model's state with its adapter merged into the modules that have one; each keeps its precision."""
    below = without_adapter(state)
    if settings.lora is None:
        return below
    make: dict[str, Callable[[], Any]] = {name: partial(below.__getitem__, name) for name in below}
    for name in [name for name in state if _IN in name]:
        module = name.partition(_IN)[0]
        sides = (below[f"{module}.weight"], state[f"{module}{_OUT}weight"], state[name])
        make[f"{module}.weight"] = partial(_sum, *sides, settings.lora.scale)
    return LazyState(make)


def _sum(below: Any, outer: Any, inner: Any, scale: float) -> torch.Tensor:
    whole: torch.Tensor = with_adapter(gathered(below), gathered(outer), gathered(inner), scale)
    return whole


def without_adapter(state: State) -> dict[str, Any]:
    """Return a model's state below its adapter, under the names that it had before."""
    return {name.replace(_BASE, "."): tensor for name, tensor in state.items() if _IN not in name and _OUT not in name}


def export_adapter(folder: Path | None, model: Any, state: State, base: str) -> None:
    """Write the adapter in a model's ``state`` as peft lays it out, in the place of an earlier one.

    ``base`` is the model that it belongs to. vLLM takes the folder as a LoRA adapter, peft as a trained one. All
    processes that share a model call this, those without a folder only to give their shares.
    """
    from safetensors.torch import save_file

    config = copy(model.peft_config[_NAME])
    config.base_model_name_or_path, config.inference_mode, config.task_type = base, True, "CAUSAL_LM"
    tensors = {
        name: gathered(state[own]).float().cpu().clone().contiguous() for own, name in _adapter_names(state).items()
    }
    if folder is None:
        return
    with new_folder(folder) as new:
        config.save_pretrained(new)
        save_file(tensors, new / WEIGHTS, metadata={"format": "pt"})
        for path in new.iterdir():
            path.chmod(0o644)
        if folder.exists():
            shutil.rmtree(folder)
