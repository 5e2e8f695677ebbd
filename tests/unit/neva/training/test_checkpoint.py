"""Checkpoints of a run: the last whole one is gone on from, and nothing of an interrupted one is."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError

torch = pytest.importorskip("torch")

from neva.training.checkpoint import AdamState, TrainedWeights, load_checkpoint, save_checkpoint  # noqa: E402


class Run:
    """A tiny model with a frozen layer, its optimiser and its schedule."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1))
        self.model[0].requires_grad_(False)
        weights = TrainedWeights(self.model)
        self.optimiser = torch.optim.AdamW(weights.named.values(), lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda step: 1 / (1 + step))
        self.kept: dict[str, Any] = {
            "task": weights,
            "optimiser": AdamState(self.optimiser, weights.named),
            "schedule": schedule,
        }

    def step(self, count: int) -> None:
        for number in range(count):
            (self.model[1](torch.full((2, 4), 1.0 + number)) ** 2).sum().backward()
            self.optimiser.step()
            self.kept["schedule"].step()
            self.optimiser.zero_grad()

    @property
    def trained(self) -> list[float]:
        return [*self.model[1].weight.flatten().tolist(), *self.model[1].bias.tolist()]


def test_a_run_goes_on_where_its_checkpoint_ends(tmp_path: Path) -> None:
    first, second = Run(1), Run(2)
    first.step(3)
    save_checkpoint(tmp_path, 3, first.kept, "settings")

    assert load_checkpoint(tmp_path, second.kept, "settings") == 3
    assert second.trained == first.trained
    for run in (first, second):
        run.step(2)
    assert second.trained == first.trained
    assert second.optimiser.param_groups[0]["lr"] == first.optimiser.param_groups[0]["lr"]


def test_a_checkpoint_holds_what_is_trained_and_replaces_the_one_before(tmp_path: Path) -> None:
    run = Run(1)
    for step in (1, 2):
        run.step(1)
        save_checkpoint(tmp_path, step, run.kept, "settings")

    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]
    from torch.distributed.checkpoint import FileSystemReader

    names = FileSystemReader(tmp_path / "step-00000002").read_metadata().state_dict_metadata
    assert {name for name in names if name.startswith("task.")} == {"task.1.weight", "task.1.bias"}


def test_what_an_interrupted_run_left_is_passed_over(tmp_path: Path) -> None:
    first, second = Run(1), Run(2)
    first.step(1)
    save_checkpoint(tmp_path, 1, first.kept, "settings")
    unfinished = tmp_path / "step-00000002"
    unfinished.mkdir()
    (unfinished / "state.json").write_text('{"step": 2')
    (unfinished / "__0_0.distcp").write_bytes(b"half")

    assert load_checkpoint(tmp_path, second.kept, "settings") == 1
    save_checkpoint(tmp_path, 2, second.kept, "settings")
    assert load_checkpoint(tmp_path, first.kept, "settings") == 2


def test_other_settings_start_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = Run(1), Run(2)
    save_checkpoint(tmp_path, 1, first.kept, "settings")
    before = second.trained

    assert load_checkpoint(tmp_path, second.kept, "others") == 0
    assert second.trained == before
    assert "was made with other settings: training starts anew" in caplog.text
    assert load_checkpoint(tmp_path / "nowhere", second.kept, "settings") == 0


class Runs:
    """A pickle of it makes a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_list_of_tensors_that_would_run_something_is_refused(tmp_path: Path) -> None:
    run = Run(0)
    save_checkpoint(tmp_path / "checkpoint", 1, run.kept, "these settings")
    [listed] = (tmp_path / "checkpoint").glob("*/.metadata")
    listed.write_bytes(pickle.dumps(Runs(tmp_path / "it-ran")))

    with pytest.raises(ConfigurationError, match=r"\.metadata is no list of a checkpoint's tensors"):
        load_checkpoint(tmp_path / "checkpoint", run.kept, "these settings")

    assert not (tmp_path / "it-ran").exists()
