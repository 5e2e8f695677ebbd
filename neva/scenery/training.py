"""Training of the bundled model on scenes: the model of shapes is grown, learns movement, then sentences.

Shapes stay in the training data, so that they are still answered with their own sentences. A batch follows from the
seed and the step, and a run that is resumed ends with the same model as an uninterrupted one.
"""

import json
import logging
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from connectors.errors import ConfigurationError
from neva.media_settings import ModelSettings as Facts
from neva.scenery.dataset import SceneClips, load_or_make
from neva.scenery.light import patch_colours
from neva.scenery.model.changes import FEATURES, HEADS, UNITS, begin_changes, make_room
from neva.scenery.model.growth import grow
from neva.scenery.model.readout import COLOURS, MOVEMENT, Readout, States, gather_states
from neva.scenery.model.tasks import SceneBatch, SceneHeads, SceneTask
from neva.scenery.scoring import score_scenes
from neva.shapes.batches import ShapeBatches, normalised, prompted
from neva.shapes.dataset import ShapeClips
from neva.shapes.export import export_model
from neva.shapes.model import make_model
from neva.shapes.tokenizer import make_image_processor, make_processor
from neva.shapes.training import score_model, shape_clips
from neva.training.freezing import freeze_parts
from neva.training.loop import TrainingLoop
from neva.training.parts import Llava, load_parts
from neva.training.settings import ModelSettings, ScenesSettings, VisionEncoderSettings

log = logging.getLogger(__name__)

_CALIBRATION = 400  # clips that the grown model's new weights are fitted on
_CUT = 0.5
_PLACED = 0.3  # of a batch's scenes say where something moves; of those drawn one of seventeen does
_FLAT = 6.0  # the standard deviation of luma below which a patch shows no movement


class SceneBatches:
    """The source of batches of scene clips and, among them, of shape clips."""

    def __init__(self, scenes: SceneClips, processor: Any, patches: int, seed: int) -> None:
        self.scenes, self._patches, self._seed = scenes, patches, seed
        self.shapes: ShapeClips | None = None
        self._placed = np.flatnonzero(scenes.have_place())
        self._tokenizer, images = processor.tokenizer, processor.image_processor
        self._mean, self._deviation = (torch.tensor(numbers) * 255 for numbers in (images.image_mean, images.image_std))

    def pixels(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        """Return ``uint8[..., S, S, 3]`` as the tower takes it."""
        return normalised(frames.reshape(-1, *frames.shape[-3:]), self._mean, self._deviation)

    def _contrast(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the standard deviation of luma in each patch, ``float[N, F, P]``."""
        row = round(self._patches**0.5)
        cell = frames.shape[2] // row
        luma = frames.mean(axis=-1, dtype=np.float32).reshape(*frames.shape[:2], row, cell, row, cell)
        return np.asarray(luma.std(axis=(3, 5)).reshape(*frames.shape[:2], -1))

    def batch(self, stage: int, step: int, count: int, shapes: int) -> SceneBatch:
        """Return ``count`` clips, of which ``shapes`` are of shapes."""
        rng = np.random.default_rng([self._seed, stage, step])
        chosen = rng.integers(len(self.scenes), size=count - shapes)
        if len(self._placed):
            told = rng.random(len(chosen)) < _PLACED
            chosen[told] = rng.choice(self._placed, int(told.sum()))
        scenes = self.scenes.augmented(chosen, rng)
        frames, captions = scenes.frames, [scenes.statements(i).sentence() for i in range(len(scenes))]
        if shapes and self.shapes is not None:
            drawn = self.shapes.augmented(rng.integers(len(self.shapes), size=shapes), rng)
            frames = np.concatenate([frames, drawn.frames])
            captions += [drawn.caption(i) for i in range(shapes)]
        length = frames.shape[1]
        ids, targets, _ = prompted(self._tokenizer, rng, captions, length, self._patches)
        known = np.zeros((count, length), np.float32)
        known[: len(scenes), 1:] = 1
        flow = scenes.flow.reshape(len(scenes), length, self._patches, 3)
        texture = np.clip(self._contrast(frames) / _FLAT, 0.1, 1)
        cut = scenes.motion[..., 3] > _CUT
        texture[: len(scenes)][cut] = 0
        return SceneBatch(
            self.pixels(frames),
            ids,
            targets,
            torch.from_numpy(_filled(scenes.motion, count)),
            torch.from_numpy(_filled(flow, count)),
            torch.from_numpy(known),
            torch.from_numpy(texture),
            torch.from_numpy(patch_colours(frames, round(self._patches**0.5))),
        )


def _filled(known: NDArray[np.float16], count: int) -> NDArray[np.float32]:
    whole = np.zeros((count, *known.shape[1:]), np.float32)
    whole[: len(known)] = known
    return whole


def train_scenes(loop: TrainingLoop, scenes: ScenesSettings) -> dict[str, float]:
    """Grow the model of shapes as the settings say, train and export it; return the share of right statements.

    A model that already has the sizes of the settings goes on as it is.
    """
    settings = loop.settings
    model = settings.model
    if model.restore_from_path is None:
        raise ConfigurationError("the model of shapes to begin with is needed", path="model.restore_from_path")
    began_s = time.monotonic()
    old = old_model(model)
    tower = model.mm_cfg.vision_encoder
    processor = make_processor(old.tokenizer, make_image_processor(tower.crop_size[0]), tower.patch_dim)
    patches = (tower.crop_size[0] // tower.patch_dim) ** 2
    training, held_out = _scene_clips(loop, scenes)
    batches = SceneBatches(training, processor, patches, model.seed)
    llava = _grown(old, model, batches)
    _attend_in_float32(llava)
    heads = SceneHeads(model.hidden_size)
    _learn_movement(llava)
    _train(loop, "movement", SceneTask(llava, heads, sentences=False), batches, scenes, scenes.movement_steps)
    batches.shapes, held_out_shapes = shape_clips(
        settings,
        processor.image_processor,
        training=scenes.shape_clips,
        held_out=scenes.held_out_shape_clips,
        workers=scenes.workers,
    )
    freeze_parts(llava, model.mm_cfg)
    task = SceneTask(llava, heads, sentences=True)
    _train(loop, "sentences", task, batches, scenes, settings.trainer.max_steps)
    _learn_readout(loop, llava, old.tokenizer, batches, scenes)
    llava.eval()
    if loop.accelerator.is_main_process:
        export_model(settings.exp_manager.model_folder, llava, processor)
    scorer = ShapeBatches(held_out_shapes, old.tokenizer, processor.image_processor, patches, model.seed)
    of_shapes = score_model(llava, old.tokenizer, scorer, held_out_shapes)
    score = score_scenes(llava, old.tokenizer, batches.pixels, held_out, patches) | {"shapes": of_shapes.caption}
    minutes = (time.monotonic() - began_s) / 60
    log.info("%s. %s %s. %.1f minutes.", settings.name, of_shapes, score, minutes)
    if loop.accelerator.is_main_process:
        record = json.dumps(score | {"minutes": round(minutes, 1)}, indent=2)
        (settings.exp_manager.exp_dir / "score.json").write_text(record + "\n", encoding="utf-8")
    return score


def _grown(old: Llava, model: ModelSettings, batches: SceneBatches) -> Any:
    """Return a model of the sizes of the settings that knows what ``old``, of one of three sizes, does."""
    width = old.model.config.text_config.hidden_size
    if width == model.hidden_size:
        return old.model
    grown, sizes = old.model, grown_sizes(model)
    if width != sizes.hidden_size:
        grown = make_model(sizes, old.tokenizer)
        grow(old.model, grown, batches.pixels(batches.scenes.frames[:_CALIBRATION]))
    wider = make_model(model, old.tokenizer)
    make_room(grown, wider, batches.pixels(batches.scenes.frames[:_CALIBRATION]))
    return wider


def grown_sizes(model: ModelSettings) -> ModelSettings:
    """Return the settings of the grown model before it has room for what changes."""
    return model.model_copy(
        update={
            "hidden_size": model.hidden_size - FEATURES,
            "num_attention_heads": model.num_attention_heads - HEADS,
            "ffn_hidden_size": model.ffn_hidden_size - UNITS,
        }
    )


def old_model(model: ModelSettings) -> Llava:
    """Return the model of shapes to begin with; the sizes in the settings are the grown model's."""
    parts = model.mm_cfg.model_copy(update={"vision_encoder": VisionEncoderSettings()})
    return load_parts(model.model_copy(update={"mm_cfg": parts}), Facts(), bf16=False)


def _learn_movement(llava: Any) -> None:
    """Leave to be trained what learns movement, but not where the first layer looks."""
    llava.requires_grad_(False)
    first, second = llava.model.language_model.layers[:2]
    for part in (first.mlp, first.post_attention_layernorm, second):
        part.requires_grad_(True)


def _learn_readout(
    loop: TrainingLoop, llava: Any, tokenizer: Any, batches: SceneBatches, scenes: ScenesSettings
) -> None:
    """Begin with changes as arithmetic has them, and train what makes words of what the layers before the last know."""
    if scenes.readout_steps == scenes.colours_steps == 0:
        return
    if scenes.readout_steps:
        known = batches.batch(0, 0, _CALIBRATION, 0)
        begin_changes(llava, known.ids.to(llava.device), known.pixels.to(llava.device))
    count = loop.settings.model.micro_batch_size
    shapes = round(count * scenes.shapes_share)
    gathered = -(-scenes.readout_clips // count)
    log.info("%d batches of clips are looked at once, for the last layer.", gathered)
    states = gather_states(llava, tokenizer, lambda number: batches.batch(2, number, count, shapes), gathered)
    for stage, topic, steps in (
        ("readout", MOVEMENT, scenes.readout_steps),
        ("colours", COLOURS, scenes.colours_steps),
    ):
        if steps:
            readout = Readout(llava, topic)
            loop.run(stage, readout, steps, loop.one_batch_a_step(partial(_readout_losses, states, topic)))
            if topic == COLOURS:
                readout.go_back_half_way()


def _readout_losses(states: States, topic: str, model: Any, step: int) -> dict[str, torch.Tensor]:
    return dict(model(states.some(step, topic)))


def _attend_in_float32(llava: Any) -> None:
    """Compute attention in float32 whatever the precision: its backward pass on a CPU is slow in bfloat16."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **rest: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            seen, weights = sdpa_attention_forward(module, query.float(), key.float(), value.float(), mask, **rest)
        return seen.to(query.dtype), weights

    AttentionInterface.register("sdpa_float32", attend)
    llava.set_attn_implementation("sdpa_float32")


def _scene_clips(loop: TrainingLoop, scenes: ScenesSettings) -> tuple[SceneClips, SceneClips]:
    made = []
    for name, count, held_out in (("training", scenes.clips, False), ("held-out", scenes.held_out_clips, True)):
        path = loop.settings.exp_manager.exp_dir / f"scenes-{name}.npz"
        log.info("%d %s scenes: %s", count, name, path)
        frames = loop.settings.model.data.num_frames
        made.append(load_or_make(path, scenes.photographs, count, frames, scenes.workers, held_out=held_out))
    return made[0], made[1]


def _train(
    loop: TrainingLoop, stage: str, task: SceneTask, batches: SceneBatches, scenes: ScenesSettings, steps: int
) -> None:
    """Train one stage."""
    count = loop.settings.model.micro_batch_size
    shapes = round(count * scenes.shapes_share) if task.sentences else 0

    def losses(model: Any, step: int) -> dict[str, torch.Tensor]:
        sentence, moved = model(batches.batch(int(task.sentences), step, count, shapes))
        loss = sentence + scenes.movement_loss_weight * moved if task.sentences else moved
        return {"loss": loss, "sentence": sentence, "movement": moved}

    loop.run(stage, task, steps, loop.one_batch_a_step(losses))
