"""The last stage changes what is said of movement, by the last layer alone, and little else."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from neva.scenery.model.changes import FEATURES
from neva.scenery.model.readout import COLOURS, MOVEMENT, Readout, States, gather_states
from neva.scenery.statements import COLOURS as COLOUR_NAMES
from neva.shapes.model import make_model
from tests.unit.neva.scenery.conftest import Grown

pytestmark = pytest.mark.slow  # it trains


@pytest.fixture(scope="module")
def states(grown: Grown) -> States:
    return gather_states(grown.new, grown.tokenizer, lambda number: grown.batches.batch(2, number, 8, 2), 3)


def test_words_about_movement_are_told_from_the_rest(grown: Grown, states: States) -> None:
    moving = grown.tokenizer.decode(states.words[states.about(MOVEMENT)])
    rest = grown.tokenizer.decode(states.words[~states.about(MOVEMENT)])

    assert "else moves" in moving or "something moves" in moving
    assert "the camera" not in moving
    assert "moves at the" not in rest
    assert len(states.read) == len(states.words) == len(states.topic)


def test_words_about_colours_are_names_and_what_joins_and_ends_them(grown: Grown, states: States) -> None:
    said = grown.tokenizer.decode(states.words[states.about(COLOURS)])

    left = re.sub("|".join((*COLOUR_NAMES, "and", ";", " ")), "", said)
    assert left == ""
    assert said.count(";") > 8


def test_where_little_changes_older_features_come_from_a_clip_that_is_alike_so_far(states: States) -> None:
    only = replace(states, little=torch.ones_like(states.little))
    some = only.some(3, MOVEMENT)
    own = {
        (row[-FEATURES:].numpy().tobytes(), int(word)): row for row, word in zip(states.read, states.words, strict=True)
    }
    before = torch.stack(
        [own[row[-FEATURES:].numpy().tobytes(), int(word)] for row, word in zip(some.read, some.words, strict=True)]
    )

    mixed = (some.read != before).any(dim=1)
    assert mixed.any()
    assert not mixed[~some.about(MOVEMENT)].any()
    contexts = {row[:-FEATURES].numpy().tobytes(): int(at) for row, at in zip(states.read, states.context, strict=True)}
    assert all(
        contexts[row[:-FEATURES].numpy().tobytes()] == at for row, at in zip(some.read, some.context, strict=True)
    )


def test_what_it_reads_is_what_the_last_layer_makes_words_of(grown: Grown) -> None:
    batch = grown.batches.batch(2, 0, 8, 2)
    one = gather_states(grown.new, grown.tokenizer, lambda _: batch, 1)
    readout = Readout(grown.new, MOVEMENT)

    with torch.no_grad():
        losses = readout(one)
        said = grown.new(input_ids=batch.ids, pixel_values=batch.pixels).logits[:, :-1]

    words = batch.targets[:, 1:]
    # A sentence's third part, after the second semicolon, is of movement.
    semicolons = torch.tensor([";" in grown.tokenizer.decode([int(word)]) for word in words.clamp(min=0).flatten()])
    answered = words != -100
    moving = answered & ((semicolons.reshape(words.shape) & answered).cumsum(dim=1) > 1)
    expected = functional.cross_entropy(said[moving], words[moving])
    assert len(one.words[one.about(MOVEMENT)]) == int(moving.sum()) > 0
    assert losses["drift"] == pytest.approx(0, abs=1e-6)
    assert losses["movement"] == pytest.approx(float(expected), rel=1e-3)  # the states are kept in half precision


@pytest.mark.parametrize("topic", [MOVEMENT, COLOURS])
def test_only_the_last_layer_is_trained_and_the_rest_is_said_as_before(grown: Grown, topic: str) -> None:
    torch.manual_seed(0)
    model = make_model(grown.sizes, grown.tokenizer)
    found = gather_states(model, grown.tokenizer, lambda number: grown.batches.batch(2, number, 8, 2), 2)
    before = _weights(model)
    readout = Readout(model, topic)
    optimiser = torch.optim.AdamW([weight for weight in readout.parameters() if weight.requires_grad], lr=1e-3)
    losses = []
    for step in range(12):
        parts = readout(found.some(step, topic))
        parts["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append({name: float(loss.detach()) for name, loss in parts.items()})

    assert losses[-1][topic] < 0.7 * losses[0][topic]
    assert losses[-1]["drift"] < 0.2
    changed = {name for name, weight in _weights(model).items() if not torch.equal(weight, before[name])}
    last = len(model.model.language_model.layers) - 1
    allowed = (
        f"language_model.layers.{last}.mlp",
        f"language_model.layers.{last}.post",
        "language_model.norm",
        "lm_head",
    )
    assert changed
    assert all(any(part in name for part in allowed) for name in changed)


def test_half_way_back_is_the_mean_of_both(grown: Grown) -> None:
    model = make_model(grown.sizes, grown.tokenizer)
    before = _weights(model)
    readout = Readout(model, COLOURS)
    with torch.no_grad():
        model.lm_head.weight += 1

    readout.go_back_half_way()

    after = _weights(model)
    torch.testing.assert_close(after.pop("lm_head.weight"), before.pop("lm_head.weight") + 0.5)
    assert all(torch.equal(weight, before[name]) for name, weight in after.items())


def _weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}
