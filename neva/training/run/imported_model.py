"""The ``.nemo`` that a run starts from, imported into a model folder first, as an evaluation imports it."""

import logging
from pathlib import Path
from typing import Any

from neva.checkpoints.archive import CONFIG
from neva.checkpoints.import_cache import imported
from neva.checkpoints.import_nemo import ImportRequest
from neva.training.settings import TrainingSettings

log = logging.getLogger(__name__)


def with_imported_model(settings: TrainingSettings, accelerator: Any) -> TrainingSettings:
    """Return the settings with ``model.restore_from_path`` as a model folder; a checkpoint of NeMo is imported.

    ``mm_cfg.llm.from_pretrained`` is the base model of a projector alone, and ``mm_cfg.vision_encoder.from_pretrained``
    the tower, where the checkpoint has none. One process of several imports.

    Raises:
        ConfigurationError: the checkpoint can't be imported.
    """
    named, parts = settings.model.restore_from_path, settings.model.mm_cfg
    path = Path(named or "")
    if named is None or not (path.is_file() or (path / CONFIG).is_file() or (path / "context").is_dir()):
        return settings
    request = ImportRequest(
        path,
        Path(),
        parts.llm.from_pretrained,
        parts.vision_encoder.from_pretrained,
        settings.import_nemo.tokenizer,
        settings.model.data.legacy_bgr,
    )
    with accelerator.main_process_first():
        folder = imported(request, settings.import_nemo.cache_dir)
    log.info("%s is %s.", named, folder)
    # the tower and the language model are in the folder now, and its tower takes frames as they are
    model = settings.model.model_copy(
        update={
            "restore_from_path": str(folder),
            "data": settings.model.data.model_copy(update={"legacy_bgr": False}),
            "mm_cfg": parts.model_copy(
                update={
                    "llm": parts.llm.model_copy(update={"from_pretrained": None}),
                    "vision_encoder": parts.vision_encoder.model_copy(update={"from_pretrained": None}),
                }
            ),
        }
    )
    return settings.model_copy(update={"model": model})
