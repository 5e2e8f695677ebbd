"""A new folder takes its place whole, or leaves no trace."""

from collections.abc import Callable
from pathlib import Path

import pytest

from neva.checkpoints.model_folder.new_folder import new_folder


def make(target: Path, fill: Callable[[Path], None]) -> None:
    with new_folder(target) as folder:
        fill(folder)


def write_config(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def test_it_takes_its_place_at_the_end(tmp_path: Path) -> None:
    model = tmp_path / "made" / "model"

    def fill(folder: Path) -> None:
        write_config(folder)
        assert not model.exists()

    make(model, fill)

    assert [path.name for path in model.parent.iterdir()] == ["model"]
    assert (model / "config.json").read_text() == "{}"
    assert model.stat().st_mode & 0o777 == 0o755


def test_an_error_leaves_no_trace(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        write_config(folder)
        raise RuntimeError("full disk")

    with pytest.raises(RuntimeError, match="full disk"):
        make(tmp_path / "model", fill)

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_program_made_meanwhile_is_not_lost(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        write_config(folder)
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "mine").touch()

    with pytest.raises(OSError, match="not empty"):
        make(tmp_path / "model", fill)

    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine"]
