"""The grown model: its first layer sees each patch beside the one before, and steps teach it more."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neva
from neva.scenery.compose import SceneClip, draw_clip
from neva.scenery.dataset import SceneClips, label_row
from neva.scenery.growth import frequencies, grow, places_of
from neva.scenery.photographs import draw_texture
from neva.scenery.tasks import SceneHeads, SceneTask
from neva.scenery.training import SceneBatches, old_model
from neva.shapes.dataset import ShapeClips, load_or_make
from neva.shapes.model import make_model
from neva.shapes.tokenizer import make_image_processor, make_processor
from neva.training.config_file import read_training_settings
from tests.unit.neva.scenery.shapes_model import write_shapes_model

CONFIG = Path(neva.__file__).parent.parent / "config" / "demo-scenes.yaml"
SEEDS = range(19_000_000, 19_000_012)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any, ShapeClips, SceneBatches]:
    """The old model, the grown one, the tokenizer, clips of shapes, and batches."""
    folder = write_shapes_model(tmp_path_factory.mktemp("shapes") / "model")
    settings = read_training_settings(CONFIG, [f"model.restore_from_path={folder}"], "finetune")[0].model
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
    grow(old.model, new, batches.pixels(scenes.frames))
    return old.model.eval(), new.eval(), old.tokenizer, shapes, batches


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
    task = SceneTask(new, SceneHeads(new.config.text_config.hidden_size), sentences=sentences)
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


def test_the_first_layer_puts_beside_each_patch_the_one_before(
    grown: tuple[Any, Any, Any, ShapeClips, SceneBatches], tmp_path: Path
) -> None:
    old, _, tokenizer, _, batches = grown
    settings = read_training_settings(CONFIG, [], "finetune")[0].model
    torch.manual_seed(1)
    new = make_model(settings, tokenizer)
    frames = batches.scenes.frames[:4]
    grow(old, new, batches.pixels(frames))

    with torch.no_grad():
        features = new.model.get_image_features(
            batches.pixels(frames), vision_feature_layer=-1, vision_feature_select_strategy="default"
        )
        hidden = torch.stack(list(features.pooler_output)).reshape(4, 128, -1)
        language = new.model.language_model
        attended, _ = language.layers[0].self_attn(
            language.layers[0].input_layernorm(hidden),
            position_embeddings=language.rotary_emb(hidden, torch.arange(128)[None]),
            attention_mask=torch.full((128, 128), -torch.inf).triu(1)[None, None],
        )
    before, now = hidden[:, :-16, 128:190], attended[:, 16:, 192:254]
    spread = before.std(dim=(0, 1))
    shown = spread > 0.2 * spread.max()
    assert shown.sum() > 50
    for feature in shown.nonzero().flatten().tolist():
        assert np.corrcoef(before[..., feature].flatten(), now[..., feature].flatten())[0, 1] > 0.8


def test_two_features_say_where_a_patch_is(grown: tuple[Any, Any, Any, ShapeClips, SceneBatches]) -> None:
    old, new, _, _, batches = grown
    with torch.no_grad():
        seen = new.get_image_features(
            batches.pixels(batches.scenes.frames[:4]),
            vision_feature_layer=new.config.vision_feature_layer,
            vision_feature_select_strategy="default",
        )
        features = torch.stack(list(seen.pooler_output))
    narrow, wide = old.config.text_config.hidden_size, new.config.text_config.hidden_size
    first = narrow + (wide - narrow) // 2 - 4
    places = places_of(features.shape[1]).expand(len(features), -1, -1)

    for axis in (0, 1):
        said, true = features[..., first + axis].flatten(), places[..., axis].flatten()
        assert np.corrcoef(said.numpy(), true.numpy())[0, 1] > 0.9
