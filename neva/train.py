"""A training run as a whole, from settings to a model folder: ``captiond pretrain`` and ``captiond finetune``."""

import logging
from pathlib import Path

import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import set_seed

from connectors.errors import ConfigurationError
from neva import registration
from neva.shapes.training import train_shapes
from neva.training.conversations import train_conversations
from neva.training.loop import TrainingLoop
from neva.training.progress import TrainingProgress, draw_loss_curve
from neva.training.settings import ShapesSettings, Stage, TrainingSettings

log = logging.getLogger(__name__)


def train(settings: TrainingSettings, stage: Stage) -> Path:
    """Train, write the model and draw the loss curve; return the model's folder.

    The run resumes from its last checkpoint where there is one. The number of processes and devices is Accelerate's
    (``accelerate launch``).

    Raises:
        ConfigurationError: settings, data and parts do not fit each other; nothing was trained.
    """
    registration.register()
    data = settings.model.data
    if data.data_path is None and (data.shapes if stage == "pretrain" else data.scenes) is None:
        raise ConfigurationError("the conversations to learn from are needed", path="model.data.data_path")
    places = settings.exp_manager
    places.exp_dir.mkdir(parents=True, exist_ok=True)
    if settings.trainer.num_threads is not None:
        torch.set_num_threads(settings.trainer.num_threads)
    set_seed(settings.model.seed)
    transformers.utils.logging.disable_progress_bar()
    accelerator = Accelerator(mixed_precision="bf16" if settings.trainer.precision == "bf16" else "no")
    record = places.exp_dir / "log.jsonl"
    with TrainingProgress(record, shown=accelerator.is_main_process) as progress:
        loop = TrainingLoop(settings, accelerator, progress)
        if data.data_path is None and data.scenes is not None:
            from neva.scenery.training import train_scenes  # OpenCV, which comes with vLLM, is for this alone

            train_scenes(loop, data.scenes)
        elif data.data_path is None:
            train_shapes(loop, data.shapes or ShapesSettings())
        else:
            train_conversations(loop, stage)
    if accelerator.is_main_process and record.exists():
        draw_loss_curve(record, places.exp_dir / "loss.png")
        log.info("%s shows the loss.", places.exp_dir / "loss.png")
    accelerator.end_training()
    return places.model_folder
