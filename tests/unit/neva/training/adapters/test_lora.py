"""LoRA in a tiny LLaVA: which weights learn and at which rate, what is shared, and what is written."""

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from connectors.errors import ConfigurationError  # noqa: E402
from neva.training.adapters.lora import add_adapter, export_adapter, merged, rate_groups, without_adapter  # noqa: E402
from neva.training.adapters.settings import PeftSettings  # noqa: E402
from neva.training.freezing import freeze_parts  # noqa: E402
from neva.training.loop import make_optimiser, make_schedule  # noqa: E402
from neva.training.settings import MmSettings, ModelSettings  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning", "UserWarning")
]
LAYERS, WIDTH = 2, 32


def tiny_llava() -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(2)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
    text = LlamaConfig(**sizes, vocab_size=64, num_key_value_heads=1, head_dim=16)
    tower = CLIPVisionConfig(**sizes, image_size=28, patch_size=14)
    return LlavaForConditionalGeneration(LlavaConfig(vision_config=tower, text_config=text, image_token_index=5))


def peft(**tuning: Any) -> PeftSettings:
    return PeftSettings.model_validate({"peft_scheme": "lora", "lora_tuning": {"adapter_dim": 4, **tuning}})


def adapted(settings: PeftSettings) -> Any:
    model = tiny_llava()
    freeze_parts(model, MmSettings())
    add_adapter(model, settings)
    return model


def fill(model: Any) -> Any:
    """Give the output's side numbers, as training does."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    return model


def trained(model: Any) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_the_adapter_and_the_projector_learn_alone() -> None:
    found = trained(adapted(peft(target_modules=["all"], variant="canonical")))

    modules = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    layers = [f"model.language_model.layers.{layer}.{name}" for layer in range(LAYERS) for name in modules]
    projector = [f"model.multi_modal_projector.linear_{n}.{rest}" for n in (1, 2) for rest in ("weight", "bias")]
    assert found == {*projector, *(f"{name}.lora_{side}.default.weight" for name in layers for side in "AB")}


def test_queries_keys_and_values_share_one_matrix_as_nemos_do() -> None:
    model = adapted(peft(target_modules=["attention_qkv", "mlp_fc1"]))

    layer = model.model.language_model.layers[1]
    first = {name: layer.self_attn.get_submodule(name).lora_A["default"].weight for name in ("q_proj", "k_proj")}
    assert first["q_proj"] is first["k_proj"]
    assert layer.mlp.gate_proj.lora_A["default"].weight is layer.mlp.up_proj.lora_A["default"].weight
    assert layer.mlp.gate_proj.lora_A["default"].weight is not first["q_proj"]
    assert len({id(weight) for name, weight in model.named_parameters() if "lora_A" in name}) == 2 * LAYERS


def test_layers_are_counted_from_one() -> None:
    found = trained(adapted(peft(layer_selection=[2])))

    assert {name.split(".")[3] for name in found if "lora" in name} == {"1"}
    with pytest.raises(ConfigurationError, match=r"layer_selection: the language model has 2 layers"):
        adapted(peft(layer_selection=[3]))


@pytest.mark.parametrize(("method", "deviation"), [("xavier", (2 / (4 + WIDTH)) ** 0.5), ("normal", 0.2), ("zero", 0)])
def test_an_adapter_begins_as_nemos_does(method: str, deviation: float) -> None:
    model = adapted(peft(adapter_dim=4, column_init_method=method, row_init_method="normal"))

    inner = torch.cat([weight.flatten() for name, weight in model.named_parameters() if "lora_A" in name])
    assert float(inner.std()) == pytest.approx(deviation, rel=0.2)
    assert {weight.dtype for name, weight in model.named_parameters() if "lora" in name} == {torch.float32}


def test_the_projector_learns_at_a_tenth_of_the_rate_and_both_end_at_the_minimum() -> None:
    settings = ModelSettings.model_validate(
        {"peft": {"peft_scheme": "lora"}, "optim": {"lr": 2e-4, "sched": {"warmup_steps": 2, "min_lr": 2e-7}}}
    )
    model = adapted(settings.peft)

    named = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    groups = rate_groups(named, settings)
    optimiser = make_optimiser(groups, settings.optim)
    schedule, rates = make_schedule(optimiser, settings.optim, 10), []
    for _ in range(11):
        rates.append([group["lr"] for group in optimiser.param_groups])
        optimiser.step()
        schedule.step()

    of_projector = {id(weight) for weight in model.model.multi_modal_projector.parameters()}
    assert {id(weight) for weight in groups[1]["params"]} == of_projector
    assert not {id(weight) for weight in groups[0]["params"]} & of_projector
    assert rates[2] == pytest.approx([2e-4, 2e-5])
    assert rates[10] == pytest.approx([2e-7, 2e-7])


def test_merged_the_model_says_what_it_said_with_its_adapter() -> None:
    settings = peft(target_modules=["all"], alpha=6)
    model, ids = fill(adapted(settings)).eval(), torch.tensor([[1, 7, 9, 30]])
    with torch.no_grad():
        wanted = model(input_ids=ids).logits
    plain = tiny_llava().eval()
    with torch.no_grad():
        before = plain(input_ids=ids).logits
        below = tiny_llava().eval()
        below.load_state_dict(without_adapter(model.state_dict()))
        plain.load_state_dict(dict(merged(model.state_dict(), settings)))

        assert torch.equal(below(input_ids=ids).logits, before)
        torch.testing.assert_close(plain(input_ids=ids).logits, wanted, rtol=1e-4, atol=1e-5)
    assert float((wanted - before).abs().max()) > 0.01


def test_a_frozen_language_model_keeps_its_precision_under_the_adapter() -> None:
    model = tiny_llava().to(torch.bfloat16)
    freeze_parts(model, MmSettings())
    add_adapter(model, peft())
    state = merged(fill(model).state_dict(), peft())

    assert {tensor.dtype for name, tensor in state.items() if "language_model" in name} == {torch.bfloat16}
    assert sorted(state) == sorted(tiny_llava().state_dict())


def test_an_adapter_is_written_as_peft_reads_it_and_gone_on_with(tmp_path: Path) -> None:
    from peft import PeftModel

    model = fill(adapted(peft())).eval()
    export_adapter(tmp_path / "adapter", model, model.state_dict(), "/models/base")

    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (4, 4, "/models/base")
    loaded, ids = PeftModel.from_pretrained(tiny_llava(), tmp_path / "adapter").eval(), torch.tensor([[1, 7, 9, 30]])
    again = adapted(peft().model_copy(update={"restore_from_path": str(tmp_path / "adapter")})).eval()
    with torch.no_grad():
        wanted = model(input_ids=ids).logits
        torch.testing.assert_close(loaded(input_ids=ids).logits, wanted)
        torch.testing.assert_close(again(input_ids=ids).logits, wanted)


@pytest.mark.parametrize(
    ("tuning", "says"),
    [
        ({"adapter_dim": 8, "alpha": 8}, "of other modules, or of another rank"),
        ({"target_modules": ["attention"]}, "of other modules, or of another rank"),
        ({"alpha": 2}, "it counts 4/4, not 0.5"),
        ({}, r"write lora_tuning\.variant: canonical"),
    ],
)
def test_an_adapter_of_another_kind_is_not_gone_on_with(tuning: dict[str, Any], says: str, tmp_path: Path) -> None:
    model = fill(adapted(peft(variant="canonical")))
    export_adapter(tmp_path / "adapter", model, model.state_dict(), "base")

    with pytest.raises(ConfigurationError, match=rf"restore_from_path: .*{says}"):
        adapted(peft(**tuning).model_copy(update={"restore_from_path": str(tmp_path / "adapter")}))


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"is no folder with an adapter; .* `import-nemo`"):
        adapted(peft().model_copy(update={"restore_from_path": str(tmp_path)}))
