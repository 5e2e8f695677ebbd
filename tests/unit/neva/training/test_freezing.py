"""Freezing: frozen parts are not trained and keep their precision."""

from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from neva.training.freezing import decay_groups, freeze_parts, train_in_float32  # noqa: E402
from neva.training.settings import MmSettings, ModelSettings  # noqa: E402

PARTS = ("language_model", "lm_head", "vision_tower", "linear_1", "linear_2")


def tiny_llava(activation: str = "gelu") -> Any:
    def linear() -> Any:
        return torch.nn.Linear(2, 2, dtype=torch.bfloat16)

    projector = torch.nn.ModuleDict({"linear_1": linear(), "linear_2": linear()})
    projector.linear_1, projector.linear_2 = projector["linear_1"], projector["linear_2"]
    model = SimpleNamespace(language_model=linear(), vision_tower=linear(), multi_modal_projector=projector)
    return SimpleNamespace(model=model, lm_head=linear(), config=SimpleNamespace(projector_hidden_act=activation))


def parts_of(llava: Any) -> dict[str, Any]:
    inner = llava.model
    modules = (inner.language_model, llava.lm_head, inner.vision_tower)
    projector = (inner.multi_modal_projector.linear_1, inner.multi_modal_projector.linear_2)
    return dict(zip(PARTS, (*modules, *projector), strict=True))


def settings(*frozen: str) -> MmSettings:
    return MmSettings.model_validate(
        {
            "llm": {"freeze": "llm" in frozen},
            "vision_encoder": {"freeze": "tower" in frozen},
            "freeze_mm_mlp_adapter": "projector" in frozen,
        }
    )


def trained(llava: Any) -> set[str]:
    return {name for name, part in parts_of(llava).items() if part.weight.requires_grad}


@pytest.mark.parametrize(
    ("frozen", "expected"),
    [
        (("llm", "tower"), {"linear_1", "linear_2"}),
        (("tower", "projector"), {"language_model", "lm_head"}),
        (("llm", "projector"), {"vision_tower"}),
        ((), set(PARTS)),
    ],
)
def test_frozen_parts_are_not_trained(frozen: tuple[str, ...], expected: set[str]) -> None:
    llava = tiny_llava()

    freeze_parts(llava, settings(*frozen))

    assert trained(llava) == expected


def test_the_second_layer_of_a_linear_projector_stays_the_identity() -> None:
    llava = tiny_llava("linear")

    freeze_parts(llava, settings("llm", "tower"))

    assert trained(llava) == {"linear_1"}


def test_trained_parts_are_float32() -> None:
    llava = tiny_llava()

    train_in_float32(llava, settings("tower", "projector"))

    kept = {name for name, part in parts_of(llava).items() if part.weight.dtype == torch.bfloat16}
    assert kept == {"vision_tower"}


def test_norms_and_biases_do_not_decay_where_the_language_model_learns() -> None:
    task = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2), torch.nn.RMSNorm(2))

    def groups(*, freeze: bool, **more: Any) -> list[Any]:
        said = {"mm_cfg": {"llm": {"freeze": freeze}}, "optim": {"weight_decay": 0.1}, **more}
        return decay_groups(task, ModelSettings.model_validate(said))

    decayed, spared = groups(freeze=False)
    assert [tuple(weight.shape) for weight in decayed["params"]] == [(2, 2)]
    assert [tuple(weight.shape) for weight in spared["params"]] == [(2,)] * 4
    assert spared["weight_decay"] == 0.0
    assert len(groups(freeze=True)) == 5  # all alike
    assert len(groups(freeze=False, do_layer_norm_weight_decay=True)) == 5
