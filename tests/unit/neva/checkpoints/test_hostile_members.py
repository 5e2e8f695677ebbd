"""The other members of a checkpoint run nothing either: pieces, ``common.pt``, zarr's metadata and its chunks."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from connectors.errors import ConfigurationError  # noqa: E402
from testing.hostile_checkpoints import COMMON, Touch, pieces, saved, with_piece  # noqa: E402
from testing.megatron_files import members, packed  # noqa: E402
from tests.unit.neva.checkpoints.test_hostile_metadata import read_all  # noqa: E402


@pytest.mark.parametrize("attack", sorted(pieces(Path("/nowhere"))))
def test_a_piece_that_torch_did_not_save(tmp_path: Path, attack: str) -> None:
    marker = tmp_path / "ran"
    source = with_piece(pieces(marker)[attack], tmp_path / "a.nemo")

    with pytest.raises(ConfigurationError, match=r"model_weights/__8_8\.distcp in .*a\.nemo is refused: ") as refusal:
        read_all(source)

    assert "model.output_layer.weight" in str(refusal.value)
    assert not marker.exists()


def test_the_same_piece_is_read_where_it_is_right(tmp_path: Path) -> None:
    read_all(with_piece(saved(torch.zeros(384, 32, dtype=torch.bfloat16)), tmp_path / "a.nemo"))


@pytest.mark.parametrize("file", ["stacked-tp1", "old-zarr-tp1"])
@pytest.mark.parametrize(
    "content",
    [
        lambda marker: saved(Touch(marker)),
        lambda marker: saved({"x": Touch(marker)}),
        lambda marker: pickle.dumps(Touch(marker)),
        lambda marker: pickle.dumps(Touch(marker), protocol=2),
        lambda marker: saved(Touch(marker), zipped=False),
        lambda marker: saved([1]),
        lambda marker: saved({})[:200],
        lambda marker: b"junk",
    ],
)
def test_the_common_file_runs_nothing(tmp_path: Path, file: str, content: Callable[[Path], bytes]) -> None:
    marker = tmp_path / "ran"
    source = packed(members(file) | {COMMON: content(marker)}, tmp_path / "a.nemo")

    with pytest.raises(ConfigurationError, match=r"model_weights/common\.pt in .*a\.nemo is refused: "):
        read_all(source)

    assert not marker.exists()


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"sharded_backend": "fsdp_dtensor"}', b"[" * 100_000])
def test_another_layout_is_named(tmp_path: Path, content: bytes) -> None:
    source = packed(members("stacked-tp1") | {"./model_weights/metadata.json": content}, tmp_path / "a.nemo")

    with pytest.raises(ConfigurationError, match=r"model_weights/metadata\.json in .* is refused: "):
        read_all(source)


ARRAY = "./model_weights/model.output_layer.weight/.zarray"
CHUNK = "./model_weights/model.output_layer.weight/0.0"
PICKLED = {"id": "pickle", "protocol": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "|O", "filters": [PICKLED]}, "compressed or filtered"),
        ({"dtype": "|O"}, r"its type '\|O' is none of"),
        ({"dtype": "<U9"}, "its type"),
        ({"dtype": [["a", "<f4"], ["b", "|O"]]}, "its type"),
        ({"dtype": {"a": 1}}, "its type"),
        ({"filters": [PICKLED]}, "compressed or filtered"),
        ({"compressor": PICKLED}, "compressed or filtered"),
        ({"compressor": {"id": "blosc", "cname": "lz4"}}, "compressed or filtered"),
        ({"shape": [2**40, 2**40]}, "a shape that no tensor has"),
        ({"shape": [2**40, 32]}, "chunks, more than there are files"),
        ({"shape": [-384, 32]}, "a shape that no tensor has"),
        ({"shape": [384.5, 32]}, "not of numbers"),
        ({"shape": [True, 32]}, "not of numbers"),
        ({"shape": "384"}, "no shape"),
        ({"shape": [384]}, "no shape"),
        ({"shape": [1] * 99, "chunks": [1] * 99}, "a shape that no tensor has"),
        ({"chunks": [0, 32]}, "its chunks are empty"),
        ({"chunks": [2**40, 2**7]}, r"its chunk 0\.0 has not the"),
        ({"chunks": [64, 32]}, "its chunk"),
        ({"order": "F"}, "another order"),
        ({"dimension_separator": "/../"}, "another order"),
        ({"zarr_format": 3}, "second format"),
    ],
)
def test_an_array_that_megatron_did_not_write(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    files = members("old-zarr-tp1")
    array = json.dumps(json.loads(files[ARRAY]) | changes).encode()

    with pytest.raises(ConfigurationError, match=rf"output_layer\.weight/\.zarray in .* is refused: .*{message}"):
        read_all(packed(files | {ARRAY: array}, tmp_path / "a.nemo"))


@pytest.mark.parametrize("array", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_an_array_that_is_none(tmp_path: Path, array: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"\.zarray in .*a\.nemo is refused: "):
        read_all(packed(members("old-zarr-tp1") | {ARRAY: array}, tmp_path / "a.nemo"))


@pytest.mark.parametrize("chunk", [b"", b"\0" * 100, b"\0" * 2**20, None])
def test_a_chunk_of_another_size(tmp_path: Path, chunk: bytes | None) -> None:
    files = members("old-zarr-tp1")
    del files[CHUNK]

    with pytest.raises(ConfigurationError, match=r"\.zarray in .*a\.nemo is refused: its chunk 0\.0"):
        read_all(packed(files if chunk is None else files | {CHUNK: chunk}, tmp_path / "a.nemo"))


def test_a_key_that_leads_out_is_refused_with_its_archive(tmp_path: Path) -> None:
    files = members("old-zarr-tp1") | {"./model_weights/../../.zarray": b"{}"}

    with pytest.raises(ConfigurationError, match="leads out of the archive"):
        read_all(packed(files, tmp_path / "a.nemo"))


@pytest.mark.parametrize("dtype", ["bfloat16", "<V2", "<i2"])
def test_numbers_of_16_bits_are_bfloat16_under_each_of_their_names(tmp_path: Path, dtype: str) -> None:
    from neva.checkpoints.archive import open_nemo
    from neva.checkpoints.distributed.checkpoint import open_distributed

    files = members("old-zarr-tp1")
    array = json.dumps(json.loads(files[ARRAY]) | {"dtype": dtype}).encode()
    with open_nemo(packed(files | {ARRAY: array}, tmp_path / "a.nemo")) as archive:
        found = open_distributed(archive).read("model.output_layer.weight")

    wanted = torch.frombuffer(bytearray(files[CHUNK]), dtype=torch.bfloat16).reshape(384, 32)
    assert torch.equal(found, wanted)


def test_plain_tensors_in_the_common_file_belong_to_the_checkpoint(tmp_path: Path) -> None:
    from neva.checkpoints.archive import open_nemo
    from neva.checkpoints.distributed.checkpoint import open_distributed

    content = saved({"model.plain": torch.ones(2, 3), "iteration": 7})
    with open_nemo(packed(members("stacked-tp1") | {COMMON: content}, tmp_path / "a.nemo")) as archive:
        checkpoint = open_distributed(archive)
        assert checkpoint.tensors["model.plain"].shape == (2, 3)
        assert torch.equal(checkpoint.read("model.plain", 1), torch.ones(3))
        assert "model.plain" not in open_distributed(archive, common=False).tensors
