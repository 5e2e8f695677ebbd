"""Damaged and missing files of weights are named before anything is loaded."""

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError
from daemon.engines.model.weights import check_weights, stored_dtype

TENSOR = {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}
HEAD = {"__metadata__": {"format": "pt"}, "w": TENSOR}


def safetensors(head: Any = HEAD, *, data: int = 8, length: int | None = None) -> bytes:
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + b"\0" * data


def test_whole_files_pass(tmp_path: Path) -> None:
    (tmp_path / "model-1.safetensors").write_bytes(safetensors())
    (tmp_path / "model-2.safetensors").write_bytes(safetensors({"__metadata__": {}}, data=0))
    index = {"weight_map": {"w": "model-1.safetensors", "v": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    check_weights(tmp_path)
    assert stored_dtype(tmp_path) == "BF16"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r"has 0 bytes"),
        (b"\0" * 5, r"has 5 bytes"),
        (safetensors(length=10**15), r"its head has 1,000,000,000,000,000 bytes, and \d+ follow"),
        (safetensors()[:40], r"its head has \d+ bytes, and 32 follow"),
        (safetensors(data=7), r"has \d+ bytes instead of \d+"),
        (safetensors(data=9), r"has \d+ bytes instead of \d+"),
        (safetensors(data=0), r"has \d+ bytes instead of \d+"),
        (struct.pack("<Q", 4) + b"{no}" + b"\0" * 8, r"a head that is not JSON"),
        (struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc", r"a head that is not JSON"),
        (safetensors([1, 2]), r"a head that names no tensors"),
        (safetensors({"w": {"dtype": "F32", "shape": [1]}}), r"a head that describes no tensors"),
        (safetensors({"w": {**TENSOR, "data_offsets": ["a", None]}}), r"a head that describes no tensors"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", r"pointer of Git LFS"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)

    with pytest.raises(
        ConfigurationError, match=rf"engine\.model: .*damaged: model\.safetensors .*{says}.*fetch it again"
    ):
        check_weights(tmp_path)


def test_the_type_of_a_damaged_file_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 5)

    with pytest.raises(ConfigurationError, match=r"model\.safetensors has 5 bytes"):
        stored_dtype(tmp_path)


def test_missing_shards_are_named(tmp_path: Path) -> None:
    (tmp_path / "model-1.safetensors").write_bytes(safetensors())
    index = {"weight_map": {"w": "model-1.safetensors", "v": "model-2.safetensors", "u": "model-3.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(
        ConfigurationError, match=r"model\.safetensors\.index\.json names model-2\.safetensors and 1 more"
    ):
        check_weights(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", "5", "{}", '{"weight_map": 5}'])
def test_an_index_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors())
    (tmp_path / "model.safetensors.index.json").write_text(text)

    with pytest.raises(ConfigurationError, match=r"model\.safetensors\.index\.json is no index of them"):
        check_weights(tmp_path)


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02.")


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda path: path.write_bytes(b""), "neither a whole archive nor a pickle"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "neither a whole archive nor a pickle"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1"), "pointer of Git LFS"),
        (archive, None),
        (lambda path: path.write_bytes(b"\x80\x02."), None),
    ],
)
def test_a_pickled_file_is_an_archive_or_a_pickle(
    tmp_path: Path, write: Callable[[Path], object], says: str | None
) -> None:
    write(tmp_path / "pytorch_model.bin")

    if says is None:
        check_weights(tmp_path)
    else:
        with pytest.raises(ConfigurationError, match=rf"pytorch_model\.bin .*{says}"):
            check_weights(tmp_path)


def test_an_archive_that_is_cut_off_is_damaged(tmp_path: Path) -> None:
    archive(tmp_path / "pytorch_model.bin")
    whole = (tmp_path / "pytorch_model.bin").read_bytes()
    (tmp_path / "pytorch_model.bin").write_bytes(whole[:-30])

    with pytest.raises(ConfigurationError, match="neither a whole archive"):
        check_weights(tmp_path)


def test_pickles_beside_safetensors_are_nobodys(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors())
    (tmp_path / "pytorch_model.bin").write_bytes(b"broken")

    check_weights(tmp_path)


def test_what_vllm_does_not_read_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "model-1.safetensors").write_bytes(safetensors())
    (tmp_path / "left-over.safetensors").write_bytes(b"damaged")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "model-1.safetensors"}}))
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"w": "pytorch_model-1.bin"}}))
    (tmp_path / "consolidated.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "not-fetched"}}))

    check_weights(tmp_path)


def test_missing_pickles_are_named(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"w": "pytorch_model-1.bin"}}))

    with pytest.raises(ConfigurationError, match=r"pytorch_model\.bin\.index\.json names pytorch_model-1\.bin;"):
        check_weights(tmp_path)
