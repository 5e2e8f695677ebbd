"""A training run as a whole, from settings to a model folder: ``captiond pretrain`` and ``captiond finetune``."""

import logging
import os
from datetime import timedelta
from pathlib import Path

import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, set_seed

from connectors.errors import ConfigurationError
from neva import registration
from neva.shapes.training import train_shapes
from neva.training.conversations import train_conversations
from neva.training.devices.strategy import check_devices, choose_strategy, launch_environment
from neva.training.loop import TrainingLoop
from neva.training.run.imported_model import with_imported_model
from neva.training.run.loggers import make_loggers
from neva.training.run.progress import TrainingProgress, draw_loss_curve
from neva.training.settings import ShapesSettings, Stage, TrainingSettings

log = logging.getLogger(__name__)

_PATIENCE = timedelta(hours=2)  # the first process reads the weights and writes the model while the others wait


def train(settings: TrainingSettings, stage: Stage) -> Path:
    """Train, write the model and draw the loss curve; return the model's folder.

    The run resumes from its last checkpoint where there is one. The number of processes and devices is Accelerate's
    (``accelerate launch``).

    Raises:
        ConfigurationError: settings, data and parts do not fit each other; nothing was trained.
    """
    registration.register()
    data = settings.model.data
    if not data.data_paths and (data.shapes if stage == "pretrain" else data.scenes) is None:
        raise ConfigurationError("the conversations to learn from are needed", path="model.data.data_path")
    strategy = choose_strategy(settings.trainer.strategy, os.environ)
    if strategy == "fsdp2" and not data.data_paths:
        raise ConfigurationError(
            "the bundled model is trained whole on each device: write ddp", path="trainer.strategy"
        )
    places = settings.exp_manager
    places.exp_dir.mkdir(parents=True, exist_ok=True)
    if settings.trainer.num_threads is not None:
        torch.set_num_threads(settings.trainer.num_threads)
    set_seed(settings.model.seed)
    transformers.utils.logging.disable_progress_bar()
    accelerator = _accelerator(settings)
    record = places.exp_dir / "log.jsonl"
    settings = with_imported_model(settings, accelerator)
    loggers = make_loggers(places, settings.name) if accelerator.is_main_process else ()
    with TrainingProgress(record, shown=accelerator.is_main_process, loggers=loggers) as progress:
        loop = TrainingLoop(settings, accelerator, progress, strategy)
        if not data.data_paths and data.scenes is not None and stage == "finetune":
            from neva.scenery.training import train_scenes  # OpenCV, which comes with vLLM, is for this alone

            train_scenes(loop, data.scenes)
        elif not data.data_paths:
            train_shapes(loop, data.shapes or ShapesSettings())
        else:
            train_conversations(loop, stage)
    if accelerator.is_main_process and record.exists():
        draw_loss_curve(record, places.exp_dir / "loss.png")
        log.info("%s shows the loss.", places.exp_dir / "loss.png")
    accelerator.end_training()
    return places.model_folder


def _accelerator(settings: TrainingSettings) -> Accelerator:
    """Return Accelerate's view of the devices that the run was launched on."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    os.environ.update(launch_environment(os.environ))
    accelerator = Accelerator(
        cpu=launched > 1 and not torch.cuda.is_available(),  # without this word it takes each process for the only one
        mixed_precision="bf16" if settings.trainer.precision == "bf16" else "no",
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=_PATIENCE),
            # of a trained tower the layers behind the one that is looked at get no gradients
            DistributedDataParallelKwargs(find_unused_parameters=not settings.model.mm_cfg.vision_encoder.freeze),
        ],
    )
    check_devices(accelerator.distributed_type, accelerator.num_processes, launched)
    return accelerator
