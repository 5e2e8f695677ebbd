"""The grown model: its first layer sees each patch beside the one before, and steps teach it more."""

import numpy as np
import pytest
import torch

from neva.scenery.model.growth import frequencies, grow, places_of
from neva.scenery.model.tasks import SceneHeads, SceneTask, features_of
from neva.scenery.training import grown_sizes
from neva.shapes.model import make_model
from tests.unit.neva.scenery.conftest import Grown

pytestmark = pytest.mark.slow  # it trains


def test_it_has_at_most_six_million_parameters(grown: Grown) -> None:
    assert sum(weight.numel() for weight in make_model(grown.sizes, grown.tokenizer).parameters()) <= 6_000_000


@pytest.mark.parametrize("sentences", [False, True])
def test_a_few_steps_on_one_batch_lower_its_loss(grown: Grown, sentences: bool) -> None:
    new, batches = grown.new, grown.batches
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


def test_a_batch_follows_from_its_step(grown: Grown) -> None:
    one, two, other = (grown.batches.batch(1, step, 6, 2) for step in (3, 3, 4))

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


def test_the_first_layer_puts_beside_each_patch_the_one_before(grown: Grown) -> None:
    old, batches = grown.old, grown.batches
    torch.manual_seed(1)
    new = make_model(grown_sizes(grown.sizes), grown.tokenizer)
    frames = batches.scenes.frames[:4]
    grow(old, new, batches.pixels(frames))

    with torch.no_grad():
        hidden = features_of(new, batches.pixels(frames)).reshape(4, 128, -1)
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


def test_two_features_say_where_a_patch_is(grown: Grown) -> None:
    old, new, batches = grown.old, grown.new, grown.batches
    with torch.no_grad():
        features = features_of(new, batches.pixels(batches.scenes.frames[:4]))
    narrow, wide = old.config.text_config.hidden_size, new.config.text_config.hidden_size
    first = narrow + (wide - narrow) // 2 - 4
    places = places_of(features.shape[1]).expand(len(features), -1, -1)

    for axis in (0, 1):
        said, true = features[..., first + axis].flatten(), places[..., axis].flatten()
        assert np.corrcoef(said.numpy(), true.numpy())[0, 1] > 0.9
