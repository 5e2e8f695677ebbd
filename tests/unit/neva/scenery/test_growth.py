"""The grown model: everything it knew is in its place, its new room sees movement, and steps teach it more."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neva
from neva.scenery.compose import SceneClip, draw_clip
from neva.scenery.dataset import SceneClips, label_row
from neva.scenery.growth import frequencies, grow
from neva.scenery.photographs import draw_texture
from neva.scenery.tasks import MotionHeads, SceneTask
from neva.scenery.training import SceneBatches, old_model
from neva.shapes.dataset import ShapeClips, load_or_make
from neva.shapes.model import make_model
from neva.shapes.scoring import caption_clips, prompt_ids
from neva.shapes.tokenizer import make_image_processor, make_processor
from neva.training.config_file import read_training_settings

CONFIG = Path(neva.__file__).parent.parent / "config" / "demo-scenes.yaml"
SEEDS = range(19_000_000, 19_000_012)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any, ShapeClips, SceneBatches]:
    """The old model, the grown one, the tokenizer, clips of shapes, and batches."""
    settings = read_training_settings(CONFIG, ["model.restore_from_path=bundled"], "finetune")[0].model
    old = old_model(settings)
    processor = make_processor(old.tokenizer, make_image_processor(64), 16)
    torch.manual_seed(0)
    new = make_model(settings, old.tokenizer)
    pictures = [draw_texture(np.random.default_rng(n)) for n in range(3)]
    drawn = [draw_clip(np.random.default_rng([9, n]), pictures) for n in range(12)]
    scenes = stored(drawn)
    shapes = load_or_make(tmp_path_factory.mktemp("clips") / "shapes.npz", SEEDS, processor.image_processor, 8, 1)
    batches = SceneBatches(scenes, processor, 16, 1)
    batches.shapes = shapes
    grow(old.model, new, *batches.known_flow(len(scenes)), share=0.15)
    return old.model.eval(), new.eval(), old.tokenizer, shapes, batches


def test_a_model_whose_new_features_are_faint_answers_as_the_old_one(
    grown: tuple[Any, Any, Any, ShapeClips, SceneBatches],
) -> None:
    old, new, tokenizer, shapes, batches = grown
    pixels = batches.pixels(shapes.frames).unflatten(0, (len(shapes), -1))
    ids = prompt_ids(tokenizer, 128)

    said = caption_clips(new, tokenizer, pixels, ids)

    assert said == caption_clips(old, tokenizer, pixels, ids)
    assert said == [shapes.caption(i) for i in range(len(shapes))]


def stored(clips: list[SceneClip]) -> SceneClips:
    return SceneClips(
        np.stack([clip.frames for clip in clips]),
        np.array([label_row(clip) for clip in clips]),
        np.stack([clip.motion for clip in clips]).astype(np.float16),
        np.stack([clip.flow for clip in clips]).astype(np.float16),
    )


def test_it_has_at_most_six_million_parameters(grown: tuple[Any, Any, Any, ShapeClips, SceneBatches]) -> None:
    assert sum(weight.numel() for weight in grown[1].parameters()) <= 6_000_000


@pytest.mark.parametrize("sentences", [False, True])
def test_a_few_steps_on_one_batch_lower_its_loss(
    grown: tuple[Any, Any, Any, ShapeClips, SceneBatches], sentences: bool
) -> None:
    _, new, _, _, batches = grown
    torch.manual_seed(0)
    kept = {name: weight.clone() for name, weight in new.state_dict().items()}
    task = SceneTask(new, MotionHeads(new.config.text_config.hidden_size), sentences=sentences)
    optimiser = torch.optim.AdamW(task.parameters(), lr=1e-3)
    batch = batches.batch(0, 0, 4, 1 if sentences else 0)
    losses = []
    for _ in range(6):
        loss = sum(task(batch))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    new.load_state_dict(kept)

    assert losses[-1] < 0.8 * losses[0], losses


def test_a_batch_follows_from_its_step(grown: tuple[Any, Any, Any, ShapeClips, SceneBatches]) -> None:
    one, two, other = (grown[4].batch(1, step, 6, 2) for step in (3, 3, 4))

    assert torch.equal(one.pixels, two.pixels)
    assert torch.equal(one.ids, two.ids)
    assert not torch.equal(one.pixels, other.pixels)
    assert one.known[:4, 1:].all()
    assert not one.known[4:].any()


def test_the_filters_are_as_many_as_asked_and_differ() -> None:
    filters = frequencies(16, 64).flatten(1)
    alike = torch.nn.functional.normalize(filters[3:]) @ torch.nn.functional.normalize(filters[3:]).T

    assert filters.shape == (64, 3 * 256)
    assert (alike - torch.eye(61)).abs().max() < 0.9


def test_the_new_features_tell_movement_before_any_training(
    grown: tuple[Any, Any, Any, ShapeClips, SceneBatches],
) -> None:
    old, _, tokenizer, _, batches = grown
    pictures = [draw_texture(np.random.default_rng(n)) for n in range(12)]
    drawn = [draw_clip(np.random.default_rng([11, n]), pictures) for n in range(160)]
    scenes = stored(drawn)
    settings = read_training_settings(CONFIG, ["model.restore_from_path=bundled"], "finetune")[0].model
    new = make_model(settings, tokenizer)
    kept, batches.scenes = batches.scenes, scenes
    pixels, flow = batches.known_flow(len(drawn))
    batches.scenes = kept
    seen, last = 120, slice(120, None)
    grow(old, new, pixels[: seen * 8], flow[:seen])

    with torch.no_grad():
        layer = new.config.vision_feature_layer
        features = new.model.get_image_features(pixels[seen * 8 :], vision_feature_layer=layer)
        hidden = torch.stack(list(features.pooler_output)).reshape(len(drawn) - seen, 128, -1)
        language, positions = new.model.language_model, torch.arange(128)[None]
        rotary = language.rotary_emb(hidden, positions)
        after = language.layers[0](hidden, attention_mask=None, position_ids=positions, position_embeddings=rotary)
    known = flow[last].isfinite().all(dim=-1)
    said, true = (after - hidden)[..., 188:190].unflatten(1, (8, 16))[known], flow[last][known]
    for axis in (0, 1):
        assert np.corrcoef(said[:, axis], true[:, axis])[0, 1] > 0.15
