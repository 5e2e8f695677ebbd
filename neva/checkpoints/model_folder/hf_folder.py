"""Weights in a folder of Hugging Face's layout, read by name without building the model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError

_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "pytorch_model*.bin")


def model_folder(source: str, *, key: str) -> Path:
    """Return the folder of a model, given as a folder or as a name that Hugging Face's client knows.

    Raises:
        ConfigurationError: there is no such folder or name; the error names ``key``.
    """
    if Path(source).is_dir():
        return Path(source)
    if source.startswith(("/", ".", "~")) or source.count("/") != 1:
        raise ConfigurationError(f"{source or 'it'} is no folder", path=key)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, allow_patterns=list(_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigurationError(f"{source} is neither a folder nor can it be fetched: {reason}", path=key) from error


def read_tensors(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield every tensor of the folder's weight files with its name; pickled files are loaded with ``weights_only``."""
    from safetensors import safe_open

    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    elif (folder / "model.safetensors").is_file():
        names = ["model.safetensors"]
    else:
        yield from _pickled(folder)
        return
    for name in names:
        with safe_open(folder / Path(name).name, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping
                yield key, file.get_tensor(key)


def _pickled(folder: Path) -> Iterator[tuple[str, Any]]:
    import torch

    files = sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise ConfigurationError(f"{folder} holds no weights: neither *.safetensors nor pytorch_model*.bin.")
    for path in files:
        yield from torch.load(path, map_location="cpu", weights_only=True).items()
