"""Pretraining: the tower on single frames, then everything on whole clips, scored on held-out ones and exported.

A batch is a function of the seed and the step, and a checkpoint holds weights, optimiser, schedule and step, so a run
that was cut short goes on as if it had not been.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from neva.batches import ShapeBatches, to_device
from neva.checkpoint import load_checkpoint, save_checkpoint
from neva.export import export_model
from neva.model import freeze_parts, make_model
from neva.pretrain_settings import OptimSettings, PretrainSettings, read_settings
from neva.progress import TrainingProgress, draw_loss_curve
from neva.scoring import Score, caption_clips, prompt_ids, score_captions
from neva.shape_data import ShapeClips, load_or_make
from neva.shapes import COLOURS, HELD_OUT_SEEDS, SHAPES, TRAINING_SEEDS
from neva.tokenizer import make_image_processor, make_processor, train_tokenizer
from neva.training_prompts import tokenizer_texts
from neva.training_tasks import CaptionTask, FrameHeads, TowerTask

log = logging.getLogger(__name__)

_SCORING_BATCH = 100  # clips captioned at once


@dataclass(slots=True)
class _Run:
    """What the two stages share."""

    settings: PretrainSettings
    accelerator: Any
    progress: TrainingProgress
    batches: ShapeBatches

    @property
    def learned_from(self) -> str:
        """All settings that what is learned depends on; a checkpoint made with others is not gone on with."""
        return self.settings.model_dump_json(exclude={"exp_manager": True, "trainer": {"log_every_n_steps"}})


def pretrain(config_path: Path, overrides: list[str] | None = None) -> Score:
    """Train as the file at ``config_path`` says, export the model, and return its score on held-out clips."""
    settings = read_settings(config_path, overrides or [])
    places = settings.exp_manager
    places.exp_dir.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(settings.trainer.num_threads)
    set_seed(settings.model.seed)
    began_s = time.monotonic()
    accelerator = Accelerator(mixed_precision="bf16" if settings.trainer.precision == "bf16" else "no")
    tokenizer = train_tokenizer(tokenizer_texts(), settings.model.vocab_size)
    tower = settings.model.mm_cfg.vision_encoder
    processor = make_processor(tokenizer, make_image_processor(tower.crop_size[0]), tower.patch_dim)
    llava = make_model(settings.model, tokenizer)
    freeze_parts(llava, settings.model.mm_cfg)
    training, held_out = _shape_clips(settings, processor.image_processor)
    heads = FrameHeads(tower.hidden_size, len(COLOURS), len(SHAPES))
    patches = (tower.crop_size[0] // tower.patch_dim) ** 2
    batches = ShapeBatches(training, tokenizer, processor.image_processor, patches, settings.model.seed)
    with TrainingProgress(places.exp_dir / "log.jsonl") as progress:
        run = _Run(settings, accelerator, progress, batches)
        _train_tower(run, TowerTask(llava, heads))
        _train_captions(run, CaptionTask(llava, heads))
    draw_loss_curve(places.exp_dir / "log.jsonl", places.exp_dir / "loss.png")
    llava.eval()
    score = score_model(llava, tokenizer, batches, held_out)
    minutes = (time.monotonic() - began_s) / 60
    log.info("%s. %s. %.1f minutes.", settings.name, score, minutes)
    if accelerator.is_main_process:
        export_model(places.export_dir, llava, processor)
        record = asdict(score) | {"minutes": round(minutes, 1)}
        (places.exp_dir / "score.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return score


def score_model(llava: Any, tokenizer: Any, batches: ShapeBatches, clips: ShapeClips) -> Score:
    """Return how many of ``clips`` the model captions right when it is asked as the daemon asks it."""
    frames = clips.frames.shape[1]
    ids = prompt_ids(tokenizer, batches.patches * frames)
    answers: list[str] = []
    for at in range(0, len(clips), _SCORING_BATCH):
        shown = clips.frames[at : at + _SCORING_BATCH]
        pixels = batches.pixels(shown.reshape(-1, *shown.shape[2:])).to(llava.device)
        answers += caption_clips(llava, tokenizer, pixels.unflatten(0, (len(shown), frames)), ids)
    return score_captions(answers, clips)


def _shape_clips(settings: PretrainSettings, image_processor: Any) -> tuple[ShapeClips, ShapeClips]:
    """Return the clips to train on and those to score with, made where the run's folder does not hold them yet."""
    data = settings.model.data
    made = []
    for name, seeds, count in (
        ("training", TRAINING_SEEDS, data.shapes.clips),
        ("held-out", HELD_OUT_SEEDS, data.shapes.held_out_clips),
    ):
        path = settings.exp_manager.exp_dir / f"shapes-{name}.npz"
        log.info("%d %s clips: %s", count, name, path)
        made.append(load_or_make(path, seeds[:count], image_processor, data.num_frames, data.shapes.workers))
    return made[0], made[1]


def _train_tower(run: _Run, task: TowerTask) -> None:
    """Stage 1: colour, shape and place on single frames."""
    shapes = run.settings.model.data.shapes
    device = run.accelerator.device

    def losses(model: Any, step: int) -> dict[str, torch.Tensor]:
        frames = run.batches.single_frames(step, shapes.tower_batch_size)
        return {"loss": model(*(tensor.to(device) for tensor in frames))}

    _train(run, "tower", task, shapes.tower_steps, losses)


def _train_captions(run: _Run, task: CaptionTask) -> None:
    """Stage 2: everything, with the helpers' losses beside the caption's."""
    shapes, steps = run.settings.model.data.shapes, run.settings.trainer.max_steps

    def losses(model: Any, step: int) -> dict[str, torch.Tensor]:
        batch = to_device(run.batches.captioned(step, run.settings.model.micro_batch_size), run.accelerator.device)
        caption, frame, motion = model(batch)
        fading = max(0.0, 1 - step / (shapes.motion_loss_until * steps))
        loss = caption + shapes.frame_loss_weight * frame + shapes.motion_loss_weight * fading * motion
        return {"loss": loss, "caption": caption, "frame": frame, "motion": motion}

    _train(run, "captions", task, steps, losses)


def _train(run: _Run, stage: str, task: Any, steps: int, losses: Callable[[Any, int], dict[str, torch.Tensor]]) -> None:
    """Train ``task`` for ``steps`` steps, from its last checkpoint where there is one."""
    trainer, accelerator = run.settings.trainer, run.accelerator
    trained = [p for p in task.parameters() if p.requires_grad]
    if steps == 0 or not trained:
        return
    optimiser = make_optimiser(trained, run.settings.model.optim)
    schedule = make_schedule(optimiser, run.settings.model.optim, steps)
    model, optimiser = accelerator.prepare(task, optimiser)
    checkpoint = run.settings.exp_manager.exp_dir / f"checkpoint-{stage}.pt"
    kept = {"task": task, "optimiser": optimiser, "schedule": schedule}
    first = load_checkpoint(checkpoint, kept, run.learned_from) if run.settings.exp_manager.resume_if_exists else 0
    model.train()
    run.progress.start(stage, first, steps)
    for step in range(first, steps):
        with accelerator.autocast():
            parts = losses(model, step)
        accelerator.backward(parts["loss"])
        if trainer.gradient_clip_val:
            accelerator.clip_grad_norm_(trained, trainer.gradient_clip_val)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        done = step + 1
        if done % trainer.log_every_n_steps == 0 or done == steps:
            values = {name: float(value.detach()) for name, value in parts.items()}
            run.progress.report(done, values, schedule.get_last_lr()[0])
        if accelerator.is_main_process and (done % run.settings.exp_manager.every_n_train_steps == 0 or done == steps):
            save_checkpoint(checkpoint, done, kept, run.learned_from)


def make_optimiser(parameters: list[Any], optim: OptimSettings) -> torch.optim.Optimizer:
    """Return AdamW over ``parameters``."""
    return torch.optim.AdamW(parameters, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay)


def make_schedule(optimiser: torch.optim.Optimizer, optim: OptimSettings, steps: int) -> Any:
    """Return the learning rate's course over ``steps``: up from near 0 over the warm-up, down a cosine to the least."""
    warmup = min(optim.sched.warmup_steps, steps // 4)
    least = optim.sched.min_lr / optim.lr

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        over = min(1.0, (step - warmup) / max(1, steps - warmup))
        return least + (1 - least) * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * over))))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, share)
