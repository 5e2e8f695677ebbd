"""The wider model sees what changes between frames, and where, before a step of training is made."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from neva.scenery.model import changes
from neva.scenery.model.changes import CHANGE, MOMENTS, begin_changes, make_room
from neva.scenery.model.tasks import embedded
from neva.scenery.photographs import draw_texture
from neva.shapes.model import make_model
from neva.shapes.scoring import prompt_ids
from tests.unit.neva.scenery.conftest import Grown

pytestmark = pytest.mark.slow  # it trains


@pytest.fixture(scope="module")
def wider(grown: Grown) -> Any:
    torch.manual_seed(1)
    new = make_model(grown.sizes, grown.tokenizer)
    batch = grown.batches.batch(0, 0, 80, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "_PLACE_STEPS", 1000)  # half: sides are told apart by far
        make_room(grown.new, new, batch.pixels)
    begin_changes(new, batch.ids, batch.pixels)
    return new.eval()


def film(of: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Return a still picture in which a square goes to and fro about a cell of 4 x 4: its column and row."""
    whole = draw_texture(np.random.default_rng(5)).sizes[-1]
    picture = np.asarray(whole[:64, :64], dtype=np.uint8)
    frames = np.stack([picture] * 8)
    if of is not None:
        for n, frame in enumerate(frames):
            left, top = 16 * of[0] + 3 + 2 * (n % 2), 16 * of[1] + 3
            frame[top : top + 9, left : left + 9] = (250, 20, 20)
    return frames


def after_each_layer(llava: Any, grown: Grown, frames: NDArray[np.uint8]) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return the hidden states of a clip with a question, and which of them are frames."""
    ids = torch.tensor([prompt_ids(grown.tokenizer, 128)])
    with torch.no_grad():
        hidden, shown = embedded(llava, ids, grown.batches.pixels(frames[None]))
        language, states = llava.model.language_model, []
        rotary = language.rotary_emb(hidden, torch.arange(hidden.shape[1])[None])
        for layer in language.layers:
            hidden = layer(hidden, attention_mask=None, position_embeddings=rotary)
            states.append(hidden)
    return states, shown


def means(llava: Any, grown: Grown, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what the last token of the question knows after the third layer: how much, across and down."""
    states, _ = after_each_layer(llava, grown, frames)
    first = grown.new.config.text_config.hidden_size + MOMENTS
    return np.asarray(states[2][0, -1, first : first + 3].numpy(), dtype=np.float32)


def test_it_does_what_the_grown_model_does(grown: Grown, wider: Any) -> None:
    width = grown.new.config.text_config.hidden_size
    before, shown = after_each_layer(grown.new, grown, grown.batches.scenes.frames[0])
    now, _ = after_each_layer(wider, grown, grown.batches.scenes.frames[0])

    for one, other in zip(before, now, strict=True):
        alike = torch.cosine_similarity(one[0], other[0, :, :width], dim=-1)
        assert min(alike[shown[0]].mean(), alike[-1]) > 0.98


def test_a_patch_knows_that_it_differs_from_the_frame_before(grown: Grown, wider: Any) -> None:
    states, shown = after_each_layer(wider, grown, film((2, 1)))
    change = states[0][shown][:, grown.new.config.text_config.hidden_size + CHANGE].reshape(8, 4, 4)

    others = change.clone()
    others[:, 1, 2] = 0
    assert others.abs().max() < 0.05 * change[1:, 1, 2].min()
    assert change[0].abs().max() < 0.05 * change[1:, 1, 2].min()  # nothing is before the first frame


@pytest.mark.parametrize(
    ("cell", "axis", "sign"), [((0, 1), 1, -1), ((3, 2), 1, 1), ((1, 0), 2, -1), ((2, 3), 2, 1)], ids=str
)
def test_the_text_knows_how_much_changes_and_where(
    grown: Grown, wider: Any, cell: tuple[int, int], axis: int, sign: int
) -> None:
    nothing, something = means(wider, grown, film(None)), means(wider, grown, film(cell))

    assert something[0] > 10 * abs(nothing[0])
    assert sign * something[axis] > 0.15 * something[0]
    assert abs(something[3 - axis]) < abs(something[axis])
