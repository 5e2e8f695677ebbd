"""Training of the bundled model: the tower on single frames, then the whole model on clips, a score and an export.

A batch follows from the seed and the step, and a checkpoint holds weights, optimiser, schedule and step, so an
interrupted run that is resumed ends with the same model as an uninterrupted one.
"""

import json
import logging
import time
from dataclasses import asdict
from typing import Any

import torch

from neva.shapes.batches import ShapeBatches, to_device
from neva.shapes.dataset import ShapeClips, load_or_make
from neva.shapes.export import export_model
from neva.shapes.model import make_model
from neva.shapes.prompts import tokenizer_texts
from neva.shapes.scenes import COLOURS, HELD_OUT_SEEDS, SHAPES, TRAINING_SEEDS
from neva.shapes.scoring import Score, caption_clips, prompt_ids, score_captions
from neva.shapes.tasks import CaptionTask, FrameHeads, TowerTask
from neva.shapes.tokenizer import make_image_processor, make_processor, train_tokenizer
from neva.training.freezing import freeze_parts
from neva.training.loop import TrainingLoop
from neva.training.settings import ShapesSettings, TrainingSettings

log = logging.getLogger(__name__)

_SCORING_BATCH = 100  # clips captioned at once


def train_shapes(loop: TrainingLoop, shapes: ShapesSettings) -> Score:
    """Train the bundled model as the settings say, export it, and return its score on held-out clips."""
    settings, accelerator = loop.settings, loop.accelerator
    places = settings.exp_manager
    began_s = time.monotonic()
    tokenizer = train_tokenizer(tokenizer_texts(), settings.model.vocab_size)
    tower = settings.model.mm_cfg.vision_encoder
    processor = make_processor(tokenizer, make_image_processor(tower.crop_size[0]), tower.patch_dim)
    llava = make_model(settings.model, tokenizer)
    freeze_parts(llava, settings.model.mm_cfg)
    training, held_out = shape_clips(
        settings,
        processor.image_processor,
        training=shapes.clips,
        held_out=shapes.held_out_clips,
        workers=shapes.workers,
    )
    heads = FrameHeads(tower.hidden_size, len(COLOURS), len(SHAPES))
    patches = (tower.crop_size[0] // tower.patch_dim) ** 2
    batches = ShapeBatches(training, tokenizer, processor.image_processor, patches, settings.model.seed)
    _train_tower(loop, shapes, TowerTask(llava, heads), batches)
    _train_captions(loop, shapes, CaptionTask(llava, heads), batches)
    llava.eval()
    score = score_model(llava, tokenizer, batches, held_out)
    minutes = (time.monotonic() - began_s) / 60
    log.info("%s. %s. %.1f minutes.", settings.name, score, minutes)
    if accelerator.is_main_process:
        export_model(places.model_folder, llava, processor)
        record = asdict(score) | {"minutes": round(minutes, 1)}
        (places.exp_dir / "score.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return score


def score_model(llava: Any, tokenizer: Any, batches: ShapeBatches, clips: ShapeClips) -> Score:
    """Return the model's score on ``clips`` when it is asked as the daemon asks it."""
    frames = clips.frames.shape[1]
    ids = prompt_ids(tokenizer, batches.patches * frames)
    answers: list[str] = []
    for at in range(0, len(clips), _SCORING_BATCH):
        shown = clips.frames[at : at + _SCORING_BATCH]
        pixels = batches.pixels(shown.reshape(-1, *shown.shape[2:])).to(llava.device)
        answers += caption_clips(llava, tokenizer, pixels.unflatten(0, (len(shown), frames)), ids)
    return score_captions(answers, clips)


def shape_clips(
    settings: TrainingSettings, image_processor: Any, *, training: int, held_out: int, workers: int
) -> tuple[ShapeClips, ShapeClips]:
    """Return the clips for training and those for scoring; clips that the run's folder does not hold yet are made."""
    num_frames = settings.model.data.num_frames
    made = []
    for name, seeds, count in (("training", TRAINING_SEEDS, training), ("held-out", HELD_OUT_SEEDS, held_out)):
        path = settings.exp_manager.exp_dir / f"shapes-{name}.npz"
        log.info("%d %s clips: %s", count, name, path)
        made.append(load_or_make(path, seeds[:count], image_processor, num_frames, workers))
    return made[0], made[1]


def _train_tower(loop: TrainingLoop, shapes: ShapesSettings, task: TowerTask, batches: ShapeBatches) -> None:
    """Train stage 1: the tower, on colour, shape and place in single frames."""
    device = loop.accelerator.device

    def losses(model: Any, step: int) -> dict[str, torch.Tensor]:
        frames = batches.single_frames(step, shapes.tower_batch_size)
        return {"loss": model(*(tensor.to(device) for tensor in frames))}

    loop.run("tower", task, shapes.tower_steps, loop.one_batch_a_step(losses))


def _train_captions(loop: TrainingLoop, shapes: ShapesSettings, task: CaptionTask, batches: ShapeBatches) -> None:
    """Train stage 2: the whole model, with the losses of the heads beside that of the caption."""
    clips_a_step, steps = loop.settings.model.micro_batch_size, loop.settings.trainer.max_steps

    def losses(model: Any, step: int) -> dict[str, torch.Tensor]:
        batch = to_device(batches.captioned(step, clips_a_step), loop.accelerator.device)
        caption, frame, motion = model(batch)
        fading = max(0.0, 1 - step / (shapes.motion_loss_until * steps))
        loss = caption + shapes.frame_loss_weight * frame + shapes.motion_loss_weight * fading * motion
        return {"loss": loss, "caption": caption, "frame": frame, "motion": motion}

    loop.run("captions", task, steps, loop.one_batch_a_step(losses))
