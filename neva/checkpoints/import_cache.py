"""A folder of imported checkpoints: each is imported once, and again when anything that it is made of changes."""

import hashlib
import json
import logging
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from neva.checkpoints.import_nemo import ImportRequest, import_nemo
from neva.checkpoints.model_facts import FACTS

log = logging.getLogger(__name__)


def imported(request: ImportRequest, cache_dir: Path) -> Path:
    """Return the model folder of a checkpoint in ``cache_dir``; a hash of everything that it is made of names it.

    ``request.out`` is not looked at.

    Raises:
        ConfigurationError: the checkpoint can't be imported.
    """
    made_of: list[Any] = [fingerprint(request.source), request.base_model and fingerprint(Path(request.base_model))]
    made_of += [
        getattr(request, one.name) for one in fields(request) if one.name not in ("source", "out", "base_model")
    ]
    name = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
    folder = cache_dir.expanduser() / f"{request.source.stem}-{name}"
    if (folder / FACTS).is_file():
        return folder
    log.info("Importing %s.", request.source)
    return import_nemo(replace(request, out=folder))


def fingerprint(path: Path) -> list[Any]:
    """Return the path, and the sizes and times of its files, which change when any file does."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    status = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
    return [str(path.resolve()), status]
