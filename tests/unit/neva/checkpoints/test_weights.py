"""The weights of a checkpoint: other layouts and other weights are refused by name, and no code in a file runs."""

import io
import pickle
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from connectors.errors import ConfigurationError  # noqa: E402
from neva.checkpoints.import_nemo import ImportRequest, import_nemo  # noqa: E402
from testing import nemo_checkpoints as made  # noqa: E402
from testing.nemo_checkpoints import Checkpoint  # noqa: E402
from tests.unit.neva.checkpoints.nemo_parts import Parts, assert_same, weights  # noqa: E402


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (
            {"./model_weights/metadata.json": b"{}", "./model_weights/.metadata": b""},
            r"model_weights/metadata\.json in .* is refused: it names no sharded_backend",
        ),
        (
            {"./model_weights/common.pt": b""},
            r"holds no distributed checkpoint: model_weights has neither a \.metadata nor a \.zarray",
        ),
        ({"./weights/x": b"", "./context/model.yaml": b""}, "describes no model"),
        ({"./readme": b""}, "holds no weights"),
        ({"./mp_rank_01/model_weights.ckpt": b""}, "lacks tensor rank 0 of pipeline rank 0"),
    ],
)
def test_other_layouts_are_named(parts: Parts, tmp_path: Path, others: dict[str, bytes], message: str) -> None:
    source = Checkpoint(parts.config(), {}, others).as_tar(tmp_path / "a.nemo")

    with pytest.raises(ConfigurationError, match=message):
        import_nemo(ImportRequest(source, tmp_path / "model"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.decoder.layers.0.self_attention.adapter_layer.lora_unfused_kqv_adapter.x.weight", "of adapters, LoRA"),
        ("model.decoder.layers.0.mlp.experts.local_experts.0.linear_fc1.weight", "mixture of experts"),
        ("model.embedding.position_embeddings.weight", "no Llama or Nemotron of NeMo has"),
    ],
)
def test_other_weights_are_named(parts: Parts, tmp_path: Path, name: str, message: str) -> None:
    state = made.to_mcore(parts.language) | parts.projector | {name: torch.zeros(2, 2)}

    with pytest.raises(ConfigurationError, match=message):
        import_nemo(ImportRequest(parts.checkpoint(state).as_tar(tmp_path / "a.nemo"), tmp_path / "model"))


def test_the_ranks_of_a_virtual_pipeline_are_named(parts: Parts, tmp_path: Path) -> None:
    halves = {"model0": parts.projector, "model1": made.to_mcore(parts.language)}
    checkpoint = Checkpoint(parts.config(), {"model_weights.ckpt": halves})  # type: ignore[dict-item]

    with pytest.raises(ConfigurationError, match=r"of a virtual pipeline \(model0, model1\)"):
        import_nemo(ImportRequest(checkpoint.as_tar(tmp_path / "a.nemo"), tmp_path / "model"))


def test_names_of_wrapped_models_and_of_the_first_projector(parts: Parts, tmp_path: Path) -> None:
    state = made.to_mcore(parts.language) | made.make_projector("linear")
    renamed = {
        name.replace("model.", "model.module.", 1).replace(
            "mm_projector_adapter.mm_projector", "mm_linear_adapter.linear"
        ): tensor
        for name, tensor in state.items()
    }
    mm_cfg = parts.config()["mm_cfg"] | {"mm_mlp_adapter_type": "linear"}
    sources = [parts.checkpoint(one, mm_cfg=mm_cfg) for one in (state, renamed)]

    plain, wrapped = (
        import_nemo(ImportRequest(source.as_tar(tmp_path / f"{number}.nemo"), tmp_path / str(number)))
        for number, source in enumerate(sources)
    )

    assert_same(weights(wrapped), weights(plain))


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("a checkpoint ran code",))


def test_a_checkpoint_runs_nothing(parts: Parts, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    buffer = io.BytesIO()
    torch.save({"model.output_layer.weight": Hostile()}, buffer)
    pickled = pickle.dumps(Hostile(), protocol=2)

    for content in (buffer.getvalue(), pickled, b"junk"):
        source = Checkpoint(parts.config(), {}, {"./model_weights.ckpt": content}).as_tar(tmp_path / "a.nemo")
        with pytest.raises(ConfigurationError, match="is refused"):
            import_nemo(ImportRequest(source, tmp_path / "model"))

    assert "ran code" not in capsys.readouterr().out


def test_states_of_other_libraries_are_dropped(parts: Parts, tmp_path: Path) -> None:
    state = made.to_mcore(parts.language) | parts.projector
    state["model.decoder.layers.0.self_attention.core_attention._extra_state"] = io.BytesIO(b"fp8")  # type: ignore[assignment]

    folder = import_nemo(ImportRequest(parts.checkpoint(state).as_tar(tmp_path / "a.nemo"), tmp_path / "model"))

    assert_same(weights(folder), parts.expected())
