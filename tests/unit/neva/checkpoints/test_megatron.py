"""Checkpoints that the real megatron-core wrote keep every number, whatever their ranks and their layout were."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from connectors.errors import ConfigurationError  # noqa: E402
from neva.checkpoints.archive import open_nemo  # noqa: E402
from neva.checkpoints.distributed.checkpoint import open_distributed  # noqa: E402
from neva.checkpoints.import_nemo import ImportRequest, import_nemo  # noqa: E402
from neva.checkpoints.language_model import read_text_model  # noqa: E402
from neva.checkpoints.model_folder.weight_files import write_tensors  # noqa: E402
from neva.checkpoints.weights import read_projector, read_weights  # noqa: E402
from testing.megatron_files import DATA, unpacked, written_tower  # noqa: E402
from tests.neva import megatron_model as written  # noqa: E402
from tests.neva.megatron_model import GROUPS, HEAD_DIM, HEADS, HIDDEN, INNER, numbers  # noqa: E402
from tests.neva.write_megatron_checkpoints import NEW, OLD  # noqa: E402
from tests.unit.neva.checkpoints.nemo_parts import Parts, weights  # noqa: E402

WHOLE = [name for name, (*_, parts) in {**NEW, **OLD}.items() if "llm projector" in parts]


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_tower(tmp_path_factory.mktemp("tower") / "clip")


def imported(name: str, out: Path, parts: Parts, tower: Path, **more: Any) -> dict[str, Any]:
    source = more.pop("source", DATA / f"{name}.nemo")
    request = ImportRequest(source, out, vision_tower=str(tower), tokenizer=str(parts.tokenizer_folder), **more)
    return weights(import_nemo(request))


def expected(rows: int) -> dict[str, Any]:
    """Return the language model's and the projector's numbers under Hugging Face's names."""
    state = {
        "language_model.model.embed_tokens.weight": numbers("embedding.word_embeddings.weight", [384, HIDDEN])[:rows],
        "language_model.lm_head.weight": numbers("output_layer.weight", [384, HIDDEN])[:rows],
        "language_model.model.norm.weight": numbers("decoder.final_layernorm.weight", [HIDDEN]),
    }
    for layer in range(written.LAYERS):
        old, new = f"decoder.layers.{layer}", f"language_model.model.layers.{layer}"
        each = HEADS // GROUPS + 2
        qkv = numbers(f"{old}.self_attention.linear_qkv.weight", [GROUPS * each * HEAD_DIM, HIDDEN])
        grouped = qkv.reshape(GROUPS, each, HEAD_DIM, HIDDEN)
        gate, up = numbers(f"{old}.mlp.linear_fc1.weight", [2 * INNER, HIDDEN]).chunk(2)
        state |= {
            f"{new}.self_attn.q_proj.weight": grouped[:, :-2].reshape(-1, HIDDEN),
            f"{new}.self_attn.k_proj.weight": grouped[:, -2].reshape(-1, HIDDEN),
            f"{new}.self_attn.v_proj.weight": grouped[:, -1].reshape(-1, HIDDEN),
            f"{new}.self_attn.o_proj.weight": numbers(
                f"{old}.self_attention.linear_proj.weight", [HIDDEN, HEADS * HEAD_DIM]
            ),
            f"{new}.mlp.gate_proj.weight": gate,
            f"{new}.mlp.up_proj.weight": up,
            f"{new}.mlp.down_proj.weight": numbers(f"{old}.mlp.linear_fc2.weight", [HIDDEN, INNER]),
            f"{new}.input_layernorm.weight": numbers(f"{old}.input_layernorm.weight", [HIDDEN]),
            f"{new}.post_attention_layernorm.weight": numbers(f"{old}.pre_mlp_layernorm.weight", [HIDDEN]),
        }
    for ours, theirs, width in (("linear_1", 0, written.TOWER), ("linear_2", 2, HIDDEN)):
        state[f"multi_modal_projector.{ours}.weight"] = numbers(f"projector.{theirs}.weight", [HIDDEN, width])
        state[f"multi_modal_projector.{ours}.bias"] = numbers(f"projector.{theirs}.bias", [HIDDEN])
    return state


def assert_holds(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("name", WHOLE)
def test_every_layout_and_every_number_of_ranks(parts: Parts, tower: Path, tmp_path: Path, name: str) -> None:
    found = imported(name, tmp_path / "model", parts, tower)

    assert_holds(found, expected(len(parts.tokenizer)))
    assert {key for key in found if not key.startswith("vision_tower.")} == expected(1).keys()


def test_a_projector_and_its_base_model(parts: Parts, tower: Path, tmp_path: Path) -> None:
    found = imported("projector-tp2", tmp_path / "model", parts, tower, base_model=str(DATA / "base-tp2.nemo"))

    assert_holds(found, expected(len(parts.tokenizer)))


def test_a_tower_that_was_trained(parts: Parts, tower: Path, tmp_path: Path) -> None:
    found = imported("with-tower-tp1", tmp_path / "model", parts, tower, base_model=str(DATA / "base-tp2.nemo"))

    assert_holds(found, expected(len(parts.tokenizer)))
    assert_holds(found, {f"vision_tower.{name}": tensor for name, tensor in written.tower_state().items()})


@pytest.mark.parametrize("name", ["stacked-tp2", "old-zarr-tp2"])
def test_an_extracted_folder(parts: Parts, tower: Path, tmp_path: Path, name: str) -> None:
    source = unpacked(name, tmp_path / "extracted")

    found = imported(name, tmp_path / "model", parts, tower, source=source)

    assert_holds(found, expected(len(parts.tokenizer)))


def test_it_computes_what_megatron_computed(parts: Parts, tower: Path, tmp_path: Path) -> None:
    from transformers import LlavaForConditionalGeneration

    imported("stacked-tp2", tmp_path / "model", parts, tower)
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()

    with torch.inference_mode():
        found = model(input_ids=torch.tensor([written.TOKENS])).logits[0]

    computed = torch.load(DATA / "logits.pt", weights_only=True)
    assert (found - computed[:, : found.shape[1]]).abs().max() < 1e-5


def test_one_layer_of_a_stack_is_read_alone() -> None:
    name = "model.decoder.layers.mlp.linear_fc1.weight"
    for file in ("stacked-tp2", "old-zarr-tp2"):
        with open_nemo(DATA / f"{file}.nemo") as archive:
            checkpoint = open_distributed(archive)
            whole = checkpoint.read(name)
            assert checkpoint.tensors[name].shape == tuple(whole.shape)
            for row in range(written.LAYERS):
                assert torch.equal(checkpoint.read(name, row), whole[row])


def test_the_projector_alone_is_found_in_a_whole_model() -> None:
    with open_nemo(DATA / "stacked-tp2.nemo") as archive:
        found = {weight.rest: tensor for weight, tensor in read_projector(archive).items()}

    assert torch.equal(found["2.weight"], numbers("projector.2.weight", [HIDDEN, HIDDEN]))
    assert len(found) == 4


def test_a_weight_is_read_when_it_is_asked_for() -> None:
    with open_nemo(DATA / "stacked-tp1.nemo") as archive:
        tensors = read_weights(archive, read_text_model(archive.config()).shape)
        first, again = (next(iter(tensors.items()))[1] for _ in range(2))

    assert first.data_ptr() != again.data_ptr()


def test_one_weight_file_is_in_memory_at_a_time(tmp_path: Path) -> None:
    import weakref

    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    def tensors() -> Iterator[tuple[str, Any]]:
        nonlocal most
        for number in range(12):
            tensor = torch.full((256,), float(number))
            alive.add(tensor)
            most = max(most, len(alive))
            yield f"t{number}", tensor
            del tensor

    count = write_tensors(tmp_path, tensors(), file_bytes=3 * 1024)

    from neva.checkpoints.model_folder.hf_folder import read_tensors

    assert count == 12
    assert most <= 5
    assert len(list(tmp_path.glob("model-*-of-00004.safetensors"))) == 4
    assert {name: float(tensor[0]) for name, tensor in read_tensors(tmp_path)} == {f"t{n}": n for n in range(12)}


def test_a_compressed_one_says_what_to_do(parts: Parts, tower: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.nemo", "w:gz") as packed, tarfile.open(DATA / "stacked-tp1.nemo") as plain:
        for member in plain:
            packed.addfile(member, io.BytesIO(plain.extractfile(member).read()) if member.isreg() else None)  # type: ignore[union-attr]

    with pytest.raises(ConfigurationError, match=r"is compressed.* gunzip -c"):
        imported("stacked-tp1", tmp_path / "model", parts, tower, source=tmp_path / "a.nemo")


def test_a_number_of_layers_that_does_not_fit_is_named() -> None:
    with open_nemo(DATA / "stacked-tp1.nemo") as archive:
        shape = read_text_model(archive.config() | {"num_layers": 3}).shape
        with pytest.raises(ConfigurationError, match="of 2 layers, its configuration says 3"):
            read_weights(archive, shape)
