"""A checkpoint of NeMo's to start from is imported once, and is a model folder for the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from neva.training.run.imported_model import with_imported_model  # noqa: E402
from neva.training.settings import TrainingSettings  # noqa: E402
from testing import nemo_checkpoints as made  # noqa: E402
from tests.unit.neva.checkpoints.nemo_parts import Parts, assert_same, weights  # noqa: E402


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts(tmp_path_factory.mktemp("parts"))


@contextmanager
def alone() -> Iterator[None]:
    yield


ALONE = SimpleNamespace(main_process_first=alone)


def restore(named: Path | str, cache_dir: Path, **data: bool) -> TrainingSettings:
    model = {"restore_from_path": str(named), "data": data, "mm_cfg": {"llm": {"freeze": False}}}
    settings = {"model": model, "import_nemo": {"cache_dir": cache_dir}}
    return with_imported_model(TrainingSettings.model_validate(settings), ALONE)


def test_a_checkpoint_is_imported_once(parts: Parts, tmp_path: Path) -> None:
    source = parts.checkpoint(made.to_mcore(parts.language) | parts.projector).as_tar(tmp_path / "neva.nemo")

    folder = Path(restore(source, tmp_path / "kept").model.restore_from_path or "")
    written = (folder / "config.json").stat().st_mtime_ns
    again = restore(source, tmp_path / "kept")

    assert_same(weights(folder), parts.expected())
    assert again.model.restore_from_path == str(folder)
    assert (folder / "config.json").stat().st_mtime_ns == written
    assert folder.parent == tmp_path / "kept"
    assert not again.model.mm_cfg.llm.freeze


def test_the_first_generations_channels_are_turned_round_once(parts: Parts, tmp_path: Path) -> None:
    source = parts.checkpoint(made.to_mcore(parts.language) | parts.projector).as_tar(tmp_path / "neva.nemo")

    plain = restore(source, tmp_path / "kept")
    legacy = restore(source, tmp_path / "kept", legacy_bgr=True)

    assert not legacy.model.data.legacy_bgr  # the tower is turned round, so frames stay as they are
    first = "vision_tower.vision_model.embeddings.patch_embedding.weight"
    tensors = [weights(Path(one.model.restore_from_path or ""))[first] for one in (plain, legacy)]
    assert torch.equal(tensors[1], tensors[0].flip(1))


@pytest.mark.parametrize("named", ["bundled", "org/model"])
def test_a_name_and_a_folder_stay_as_they_are(named: str, tmp_path: Path) -> None:
    assert restore(named, tmp_path).model.restore_from_path == named
    (tmp_path / "folder").mkdir()
    assert restore(tmp_path / "folder", tmp_path).model.restore_from_path == str(tmp_path / "folder")
