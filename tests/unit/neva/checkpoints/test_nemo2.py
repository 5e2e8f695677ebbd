"""Folders of NeMo 2: every number arrives, and nothing that ``context`` names is imported or called."""

from pathlib import Path
from typing import Any

import pytest
import yaml

torch = pytest.importorskip("torch")

from connectors.errors import ConfigurationError  # noqa: E402
from neva.checkpoints.import_nemo import ImportRequest, import_nemo  # noqa: E402
from neva.checkpoints.model_facts import read_facts  # noqa: E402
from testing import nemo_checkpoints as made  # noqa: E402
from tests.unit.neva.checkpoints.nemo_parts import Parts, assert_same, weights  # noqa: E402

pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "UserWarning")]
VLM, LLM = "nemo.collections.vlm", "nemo.collections.llm.gpt.model.llama"


def called(target: str) -> dict[str, Any]:
    """Return how NeMo 2 writes a function or class that it does not call."""
    return {"_target_": target, "_call_": False}


def language_config(**changes: Any) -> dict[str, Any]:
    return {
        "_target_": f"{LLM}.LlamaConfig",
        "num_layers": made.LAYERS,
        "hidden_size": made.HIDDEN,
        "ffn_hidden_size": made.INNER,
        "num_attention_heads": made.HEADS,
        "num_query_groups": made.GROUPS,
        "kv_channels": made.HEAD_DIM,
        "normalization": "RMSNorm",
        "layernorm_epsilon": 1e-6,
        "activation_func": called("torch.nn.functional.silu"),
        "gated_linear_unit": True,
        "add_bias_linear": False,
        "rotary_percent": 1.0,
        "rotary_base": 20000,
        "seq_length": 512,
        "share_embeddings_and_output_weights": False,
        "params_dtype": called("torch.bfloat16"),
        **changes,
    }


def context(parts: Parts, **changes: Any) -> dict[str, Any]:
    tower = {
        "_target_": f"{VLM}.vision.base.HFCLIPVisionConfig",
        "pretrained_model_name_or_path": str(parts.tower_folder),
        "image_size": 28,
    }
    projector = {"_target_": f"{VLM}.vision.base.MultimodalProjectorConfig", "projector_type": "mlp2x_gelu"}
    config = {
        "_target_": f"{VLM}.neva.model.llava.LlavaConfig",
        "language_transformer_config": language_config(),
        "vision_transformer_config": tower,
        "vision_projection_config": projector,
        "drop_vision_class_token": True,
        "vision_feature_layer": -2,
        "forward_step_fn": called(f"{VLM}.neva.model.base.neva_forward_step"),
        **changes,
    }
    tokenizer = {"_target_": "nemo.AutoTokenizer", "pretrained_model_name": str(parts.tokenizer_folder)}
    return {"_target_": f"{VLM}.neva.model.llava.LlavaModel", "config": config, "tokenizer": tokenizer, "optim": None}


def stored(parts: Parts, projector: str = "torch") -> made.State:
    """Return the model's tensors under NeMo 2's names: the parts of all layers are stacked."""
    state, stacks = dict[str, Any](), dict[str, list[Any]]()
    for name, tensor in made.to_mcore(parts.language).items():
        if ".layers." in name:
            before, _, after = name.partition(".layers.")
            stacks.setdefault(f"{before}.layers.{after.partition('.')[2]}", []).append(tensor)
        else:
            state[name] = tensor
    state |= {name: torch.stack(layers) for name, layers in stacks.items()}
    state = {f"module.language_{name}": tensor for name, tensor in state.items()}  # model. is language_model. there
    names = {"torch": ("0", "2"), "megatron": ("encoder.linear_fc1", "encoder.linear_fc2")}[projector]
    for own, theirs in zip(("0", "2"), names, strict=True):
        for rest in ("weight", "bias"):
            state[f"module.vision_projection.{theirs}.{rest}"] = parts.projector[f"{made.ADAPTER}.{own}.{rest}"]
    tower = {f"module.vision_model.{name.removeprefix('vision_tower.')}": one for name, one in parts.tower.items()}
    moments = {f"optimizer.state.exp_avg.{name}": tensor for name, tensor in state.items()}
    return state | tower | moments


def write(folder: Path, state: made.State, said: dict[str, Any] | str) -> Path:
    import torch.distributed.checkpoint as dcp

    (folder / "context").mkdir(parents=True)
    dcp.save(state, checkpoint_id=folder / "weights", no_dist=True)
    (folder / "weights" / "metadata.json").write_text('{"sharded_backend": "torch_dist", "sharded_backend_version": 1}')
    (folder / "weights" / "common.pt").write_bytes(b"the state of a trainer, which is not opened")
    (folder / "context" / "io.json").write_text('{"root": {"type": "buildable"}}')
    (folder / "context" / "model.yaml").write_text(said if isinstance(said, str) else yaml.safe_dump(said))
    return folder


def imported(source: Path, **options: Any) -> Path:
    return import_nemo(ImportRequest(source, source.parent / "model", **options))


@pytest.mark.parametrize("projector", ["torch", "megatron"])
def test_every_number_arrives(parts: Parts, tmp_path: Path, projector: str) -> None:
    folder = imported(write(tmp_path / "neva", stored(parts, projector), context(parts)))

    assert_same(weights(folder), parts.expected())
    assert read_facts(folder).media_type == "image"


def test_a_tokenizer_of_its_own_is_taken(parts: Parts, tmp_path: Path) -> None:
    said = context(parts) | {"tokenizer": {"pretrained_model_name": "no/such-name"}}
    source = write(tmp_path / "neva", stored(parts), said)
    made.make_tokenizer(source / "context" / "nemo_tokenizer")

    assert_same(weights(imported(source)), parts.expected())


def test_a_language_model_of_nemo_2_is_a_base(parts: Parts, tmp_path: Path) -> None:
    state = {name.replace("language_model.", "", 1): one for name, one in stored(parts).items() if "language" in name}
    base = write(tmp_path / "base", state, {"config": language_config()})
    source = parts.checkpoint(parts.projector).as_tar(tmp_path / "projector.nemo")

    assert_same(weights(imported(source, base_model=str(base))), parts.expected())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"language_transformer_config": language_config(gated_linear_unit=False)},
            "is neither a Llama nor a Nemotron",
        ),
        ({"language_transformer_config": language_config(scale_factor=8.0)}, "Llama 3.1's rotary scaling"),
        ({"language_transformer_config": language_config(num_layers=None)}, "does not say .* num_layers"),
        ({"language_transformer_config": language_config(num_layers=3)}, "of 4 layers, its configuration says 3"),
        ({"language_transformer_config": None}, "num_layers|no part that sees"),
        ({"vision_transformer_config": {"_target_": "x.CLIPViTConfig"}}, "a tower of CLIPViTConfig is not imported"),
        ({"vision_projection_config": {"projector_type": "mcore_affine"}}, "mcore_affine is not imported"),
    ],
)
def test_what_is_not_imported_is_refused_by_name(
    parts: Parts, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        imported(write(tmp_path / "neva", stored(parts), context(parts, **changes)))


HOSTILE = [
    "!!python/object/apply:os.system ['touch {mark}']",
    "!!python/object/new:os.system ['touch {mark}']",
    "!!python/object/apply:subprocess.check_output [[touch, '{mark}']]",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/object:pathlib.Path {{}}",
    "{{_target_: os.system, _args_: ['touch {mark}']}}",
    "{{_target_: builtins.exec, _call_: true, source: \"open('{mark}', 'w')\"}}",
    "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch {mark}']",
    "!unknown {{a: 1}}",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_that_a_context_names_runs(parts: Parts, tmp_path: Path, hostile: str) -> None:
    """The model is read as it is, wherever such a value stands that says nothing of its numbers."""
    mark = tmp_path / "ran"
    said = yaml.safe_dump(context(parts)) + f"hostile: {hostile.format(mark=str(mark))}\n"
    said = said.replace("optim: null", f"optim: {hostile.format(mark=str(mark))}")

    folder = imported(write(tmp_path / "neva", stored(parts), said))

    assert not mark.exists()
    assert_same(weights(folder), parts.expected())


@pytest.mark.parametrize(
    "text", ["[", "a: &x [*x]", "\x00", "- 1", "config: 5", "[" * 100_000, "!!int not-a-number", "? {a: 1}\n: 2"]
)
def test_a_context_that_is_damaged_is_refused(parts: Parts, tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"context/model\.yaml in .* (is not YAML|describes no model)"):
        imported(write(tmp_path / "neva", {"module.x": torch.zeros(1)}, text))


def test_pyyamls_own_loader_would_have_run_it(tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    yaml.load(HOSTILE[0].format(mark=str(mark)), Loader=yaml.UnsafeLoader)  # noqa: S506 - what the test is about

    assert mark.exists()
