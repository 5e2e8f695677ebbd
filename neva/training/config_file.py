"""Reading of training files: NeVA's own YAML is accepted as it is.

Every key is done, or named in the log because it changes nothing here, or refused because it would change what is
learned: see :mod:`neva.training.run.checked_keys`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from connectors.errors import ConfigurationError
from daemon.config.overrides import set_key
from daemon.config.yaml_file import read_yaml
from neva.settings_file import configuration_error
from neva.training.adapters.settings import stage_defaults
from neva.training.run.checked_keys import at, without_nemos_keys
from neva.training.settings import STAGES, Stage, TrainingSettings

_REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")  # OmegaConf's reference to another key of the same file


def read_training_settings(
    path: Path | None, overrides: Sequence[str], stage: Stage
) -> tuple[TrainingSettings, list[str]]:
    """Return a stage's settings, and lines for the log about the keys that have no effect here.

    ``key.path=value`` overrides win over the file. Relative paths are relative to the file, or to the working folder
    where there is none.

    Raises:
        ConfigurationError: a key is wrong; the error names it.
    """
    values = read_yaml(path) if path is not None else {}
    for override in overrides:
        set_key(values, override)
    restored = values.pop("restore_from_path", None)
    if restored and at(values, "model.restore_from_path") is None:  # NeVA's files have it at both places
        set_key(values, f"model.restore_from_path={restored}")
    whole = _over(stage_defaults(STAGES[stage], values), values)
    values = _resolved(whole, whole)
    _adopt(values)
    lines = [*without_nemos_keys(values), *_said_of_data(values)]
    try:
        settings = TrainingSettings.model_validate(values)
    except ValidationError as error:
        raise configuration_error(error) from error
    return _placed(settings, path.resolve().parent if path is not None else Path.cwd()), lines


def _adopt(values: Mapping[str, Any]) -> None:
    """Take the run's folder and the interval of its checkpoints from NeMo's own keys for them.

    The keys of validation that are null, as Lightning has it, are those that are not there.
    """
    trainer = values.get("trainer") or {}
    for key in ("val_check_interval", "limit_val_batches"):
        if trainer.get(key, 0) is None:
            del trainer[key]
    manager = values.get("exp_manager") or {}
    if manager.get("explicit_log_dir"):
        manager.setdefault("exp_dir", manager["explicit_log_dir"])
    if every := (manager.get("checkpoint_callback_params") or {}).get("every_n_train_steps"):
        manager.setdefault("every_n_train_steps", every)
    if manager and manager.get("exp_dir") is None:
        manager.pop("exp_dir", None)


def _said_of_data(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines about keys of the data that have no effect with the others."""
    data = at(values, "model.data") or {}
    if data.get("concat_sampling_probabilities") and not isinstance(data.get("data_path"), list):
        yield "model.data.concat_sampling_probabilities has no effect: model.data.data_path names one file."
    asked = [key for key in ("val_check_interval", "limit_val_batches") if at(values, f"trainer.{key}") is not None]
    if asked and "validation" not in data:
        keys = " and ".join(f"trainer.{key}" for key in asked)
        yield (
            f"{keys}: no validation, for NeMo's is on the training data; name other conversations as "
            "model.data.validation.data_path."
        )


def _over(below: Any, above: Any) -> Any:
    """Return a mapping in which the keys of ``above`` win over those of ``below``."""
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return below if above is None and isinstance(below, Mapping) else above
    return {**below, **{key: _over(below.get(key), value) for key, value in above.items()}}


def _resolved(value: Any, whole: Mapping[str, Any], seen: tuple[str, ...] = ()) -> Any:
    """Return a value with references to other keys, such as ``${model.seed}``, replaced by the values of those keys."""
    if isinstance(value, Mapping):
        return {key: _resolved(below, whole, seen) for key, below in value.items()}
    if isinstance(value, str) and (found := _REFERENCE.fullmatch(value)) is not None:
        if found[1] in seen:
            raise ConfigurationError(f"{value} leads to itself", path=seen[0])
        return _resolved(at(whole, found[1]), whole, (*seen, found[1]))
    return value


def _placed(settings: TrainingSettings, folder: Path) -> TrainingSettings:
    """Return the settings with relative paths made absolute."""

    def absolute(path: Path) -> Path:
        return (folder / path.expanduser()).resolve()

    def place(section: BaseModel) -> BaseModel:
        changed: dict[str, Any] = {}
        for name in type(section).model_fields:
            value = getattr(section, name)
            if isinstance(value, BaseModel):
                changed[name] = place(value)
            elif isinstance(value, Path):
                changed[name] = absolute(value)
            elif isinstance(value, tuple) and any(isinstance(one, Path) for one in value):
                changed[name] = tuple(absolute(one) for one in value)
            elif name in ("from_pretrained", "restore_from_path", "pretrain_mm_mlp_adapter") and value:
                beside = folder / Path(value).expanduser()  # a name of the model hub where there is no such file
                changed[name] = str(beside.resolve()) if beside.exists() else value
        return section.model_copy(update=changed)

    placed = place(settings)
    assert isinstance(placed, TrainingSettings)  # noqa: S101 - a copy is of the same kind
    return placed
