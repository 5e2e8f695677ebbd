"""LoRA of NeMo, merged into its base: every number as by hand, and what is not merged is refused by name."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from connectors.errors import ConfigurationError  # noqa: E402
from neva.checkpoints.import_nemo import ImportRequest, import_nemo  # noqa: E402
from testing import nemo_checkpoints as made  # noqa: E402
from tests.unit.neva.checkpoints.nemo_parts import Parts, assert_same, weights  # noqa: E402

RANK, ALPHA = 8, 20
QKV = (made.HEADS + 2 * made.GROUPS) * made.HEAD_DIM
# the adapters of a layer: the module that has it, and the sizes of what goes in and comes out
ADAPTERS = {
    "self_attention.adapter_layer.lora_kqv_adapter": (made.HIDDEN, QKV),
    "self_attention.adapter_layer.lora_dense_attention_adapter": (made.HEADS * made.HEAD_DIM, made.HIDDEN),
    "mlp.adapter_layer.lora_hto4h_adapter": (made.HIDDEN, 2 * made.INNER),
    "mlp.adapter_layer.lora_4htoh_adapter": (made.INNER, made.HIDDEN),
}
PEFT = {"peft_scheme": "lora", "lora_tuning": {"adapter_dim": RANK, "alpha": ALPHA, "adapter_dropout": 0.1}}


def make_adapters(layers: tuple[int, ...] = tuple(range(made.LAYERS))) -> made.State:
    torch.manual_seed(17)
    return {
        f"model.decoder.layers.{layer}.{adapter}.linear_{side}.weight": torch.randn(*shape, dtype=torch.bfloat16)
        for layer in layers
        for adapter, (taken, given) in ADAPTERS.items()
        for side, shape in (("in", (RANK, taken)), ("out", (given, RANK)))
    }


def legacy(adapters: made.State) -> made.State:
    return {name.replace("model.decoder.", "model.language_model.encoder."): one for name, one in adapters.items()}


def by_hand(language: made.State, adapters: made.State, scale: float) -> made.State:
    """Merge as the forward pass of NeMo has it: the product joins the fused tensor, which is taken apart after."""
    mcore, merged = made.to_mcore(language), dict(language)
    for layer in range(made.LAYERS):
        old, new = f"model.layers.{layer}", f"model.decoder.layers.{layer}"

        def fused(part: str, adapter: str, new: str = new) -> torch.Tensor:
            below = mcore[f"{new}.{part}.weight"]
            inner, outer = (adapters.get(f"{new}.{adapter}.linear_{side}.weight") for side in ("in", "out"))
            if inner is None or outer is None:
                return below
            return (below.float() + scale * (outer.float() @ inner.float())).to(below.dtype)

        each, (kqv, dense, fc1, fc2) = made.HEADS // made.GROUPS * made.HEAD_DIM, ADAPTERS
        groups = fused("self_attention.linear_qkv", kqv).split(each + 2 * made.HEAD_DIM)
        merged[f"{old}.self_attn.q_proj.weight"] = torch.cat([group[:each] for group in groups])
        merged[f"{old}.self_attn.k_proj.weight"] = torch.cat([group[each : each + made.HEAD_DIM] for group in groups])
        merged[f"{old}.self_attn.v_proj.weight"] = torch.cat([group[each + made.HEAD_DIM :] for group in groups])
        merged[f"{old}.self_attn.o_proj.weight"] = fused("self_attention.linear_proj", dense)
        gate_up = fused("mlp.linear_fc1", fc1)
        merged[f"{old}.mlp.gate_proj.weight"], merged[f"{old}.mlp.up_proj.weight"] = gate_up.split(made.INNER)
        merged[f"{old}.mlp.down_proj.weight"] = fused("mlp.linear_fc2", fc2)
    return merged


def frozen(parts: Parts, **changes: Any) -> dict[str, Any]:
    mm_cfg = parts.config()["mm_cfg"]
    return {"mm_cfg": {**mm_cfg, "llm": {**mm_cfg["llm"], "freeze": True}}, "peft": PEFT, **changes}


def base_of(parts: Parts, parent: Path, kind: str) -> Path:
    if kind == "nemo":
        return parts.checkpoint(made.to_mcore(parts.language)).as_tar(parent / "base.nemo")
    from safetensors.torch import save_file
    from transformers import LlamaConfig

    folder = parent / "llama"
    sizes = {"hidden_size": made.HIDDEN, "intermediate_size": made.INNER, "num_hidden_layers": made.LAYERS}
    heads = {"num_attention_heads": made.HEADS, "num_key_value_heads": made.GROUPS, "head_dim": made.HEAD_DIM}
    LlamaConfig(**sizes, **heads, vocab_size=len(parts.tokenizer), rms_norm_eps=1e-6).save_pretrained(folder)
    save_file(parts.language, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def imported(parts: Parts, parent: Path, state: made.State, base: Path, **changes: Any) -> made.State:
    source = parts.checkpoint(state, **frozen(parts, **changes)).as_tar(parent / "lora.nemo")
    return weights(import_nemo(ImportRequest(source, parent / "model", base_model=str(base))))


@pytest.mark.parametrize("base", ["nemo", "hugging_face"])
@pytest.mark.parametrize("generation", ["mcore", "legacy"])
def test_merged_into_its_base(parts: Parts, tmp_path: Path, generation: str, base: str) -> None:
    adapters = make_adapters()
    state = (adapters if generation == "mcore" else legacy(adapters)) | parts.projector

    found = imported(parts, tmp_path, state, base_of(parts, tmp_path, base))

    assert_same(found, parts.expected(by_hand(parts.language, adapters, ALPHA / RANK)))


def test_without_alpha_the_product_counts_once_and_other_layers_stay(parts: Parts, tmp_path: Path) -> None:
    adapters = make_adapters((1, 3))
    tuning = {"adapter_dim": RANK, "layer_selection": [2, 4]}

    found = imported(
        parts,
        tmp_path,
        adapters | parts.projector,
        base_of(parts, tmp_path, "nemo"),
        peft={"peft_scheme": "lora", "lora_tuning": tuning},
    )

    assert_same(found, parts.expected(by_hand(parts.language, adapters, 1.0)))


def test_adapters_of_two_tensor_ranks(parts: Parts, tmp_path: Path) -> None:
    adapters, ranks = make_adapters(), [dict[str, Any](parts.projector) for _ in range(2)]
    for name, tensor in adapters.items():
        shared_input = "dense_attention" in name or "4htoh" in name
        columns = "linear_in" in name and shared_input
        for rank in range(2):
            if "hto4h" in name and "linear_out" in name and "4htoh" not in name:
                piece = torch.cat([half.chunk(2)[rank] for half in tensor.chunk(2)])  # a gate over its values
            else:
                piece = tensor.chunk(2, dim=int(columns))[rank]
            ranks[rank][name] = piece.clone()
    files = {f"mp_rank_{rank:02d}/model_weights.ckpt": state for rank, state in enumerate(ranks)}
    source = made.Checkpoint(parts.config(**frozen(parts)), files).as_tar(tmp_path / "lora.nemo")
    base = base_of(parts, tmp_path, "nemo")

    folder = import_nemo(ImportRequest(source, tmp_path / "model", base_model=str(base)))

    assert_same(weights(folder), parts.expected(by_hand(parts.language, adapters, ALPHA / RANK)))


@pytest.mark.parametrize(
    ("peft", "says"),
    [
        *(
            ({"peft_scheme": scheme}, rf"peft\.peft_scheme: adapters of the scheme {scheme} are not imported: .+")
            for scheme in ("adapter", "ia3", "ptuning", "mlp_head", "qlora", "selective", "lora,ptuning")
        ),
        ({"peft_scheme": "lora", "lora_tuning": {"adapter_dim": 8, "variant": "canonical"}}, "variant canonical"),
        ({"peft_scheme": "lora", "lora_tuning": {"adapter_dim": 8, "weight_tying": True}}, "that all layers share"),
        ({}, r"peft\.peft_scheme: the checkpoint holds LoRA adapters, and its configuration says nothing of them"),
        ({"peft_scheme": "lora"}, r"adapter_dim: the checkpoint's LoRA has no rank"),
        ({"peft_scheme": "lora", "lora_tuning": {"adapter_dim": 0}}, "has no rank"),
        ({"peft_scheme": "lora", "lora_tuning": {"adapter_dim": 4}}, "has the rank 8"),
    ],
)
def test_other_adapters_are_refused_by_name(parts: Parts, tmp_path: Path, peft: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        imported(parts, tmp_path, make_adapters() | parts.projector, base_of(parts, tmp_path, "nemo"), peft=peft)

    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["lora_unfused_kqv_adapter.q_adapter", "key_infused_adapter", "adapter_1"])
def test_other_adapters_weights_are_named(parts: Parts, tmp_path: Path, name: str) -> None:
    state = {f"model.decoder.layers.0.self_attention.adapter_layer.{name}.linear_in.weight": torch.zeros(2, 2)}

    with pytest.raises(ConfigurationError, match=rf"the checkpoint holds {name.split('.')[0]}: of adapters, LoRA"):
        imported(parts, tmp_path, state | parts.projector, base_of(parts, tmp_path, "nemo"))


def test_an_adapter_that_does_not_fit_is_refused(parts: Parts, tmp_path: Path) -> None:
    adapters, base = make_adapters(), base_of(parts, tmp_path, "nemo")
    first = next(iter(adapters))
    wide = {first: torch.zeros(RANK, made.HIDDEN + 1)}
    beyond = {name.replace("layers.0.", "layers.9."): tensor for name, tensor in make_adapters((0,)).items()}

    for state, says in (
        ({}, "speaks of LoRA, and it holds none"),
        ({name: tensor for name, tensor in adapters.items() if name != first}, "one side alone of lora_qkv in layer 0"),
        (adapters | wide, "base_model_file: the adapter of .* the base model has 128 x 128 there"),
        (adapters | beyond, r"base_model_file: the base model has no language_model\.model\.layers\.9\."),
    ):
        with pytest.raises(ConfigurationError, match=says):
            imported(parts, tmp_path, state | parts.projector, base)


def test_the_base_of_an_adapter_is_no_adapter(parts: Parts, tmp_path: Path) -> None:
    state = make_adapters() | parts.projector
    base = parts.checkpoint(state, **frozen(parts)).as_tar(tmp_path / "base.nemo")

    with pytest.raises(ConfigurationError, match="base_model_file: it is an adapter itself"):
        imported(parts, tmp_path, state, base)
