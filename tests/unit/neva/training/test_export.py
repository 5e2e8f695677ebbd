"""The export of a model: weights under the names that vLLM reads."""

import pytest

from neva.training.export import served_name


@pytest.mark.parametrize(
    ("saved", "served"),
    [
        ("lm_head.weight", "language_model.lm_head.weight"),
        ("model.language_model.embed_tokens.weight", "language_model.model.embed_tokens.weight"),
        ("model.multi_modal_projector.linear_1.bias", "multi_modal_projector.linear_1.bias"),
        ("model.vision_tower.pre_layrnorm.bias", "vision_tower.vision_model.pre_layrnorm.bias"),
        ("model.vision_tower.vision_model.pre_layrnorm.bias", "vision_tower.vision_model.pre_layrnorm.bias"),
    ],
)
def test_weights_are_renamed(saved: str, served: str) -> None:
    assert served_name(saved) == served
