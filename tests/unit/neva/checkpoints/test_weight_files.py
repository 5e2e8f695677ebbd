"""Files of weights: one or several, with an index that names the file of each."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from neva.checkpoints.hf_folder import read_tensors  # noqa: E402
from neva.checkpoints.weight_files import write_weights  # noqa: E402


def weights() -> dict[str, torch.Tensor]:
    whole = torch.arange(48, dtype=torch.float32).reshape(12, 4)
    return {"a": whole[:3], "b": whole.T, "c": torch.ones(4, 4, dtype=torch.bfloat16)}


@pytest.mark.parametrize(("file_bytes", "files"), [(10_000, 1), (200, 3)])
def test_weights_are_read_as_they_were_written(tmp_path: Path, file_bytes: int, files: int) -> None:
    write_weights(tmp_path, weights(), file_bytes)

    found = dict(read_tensors(tmp_path))
    assert found.keys() == weights().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights().items())
    assert len(list(tmp_path.glob("*.safetensors"))) == files
    index = tmp_path / "model.safetensors.index.json"
    assert index.exists() == (files > 1)
    if files > 1:
        assert json.loads(index.read_text())["metadata"]["total_size"] == sum(t.nbytes for t in weights().values())
