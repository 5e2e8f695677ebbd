"""The training of scenes as a whole, in the small: a model that grew, is written, is read, and is scored."""

import json
from pathlib import Path

import pytest

from neva.scenery import training
from neva.scenery.model import changes
from neva.scenery.scoring import KINDS
from neva.train import train
from neva.training.config_file import read_training_settings
from testing.repository import ROOT
from tests.unit.neva.scenery.shapes_model import write_shapes_model


def test_the_file_of_scenes_trains_a_model_that_transformers_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    monkeypatch.setattr(training, "_CALIBRATION", 16)  # what a model begins with is held in tests/unit/neva/scenery
    monkeypatch.setattr(changes, "_PLACE_STEPS", 10)
    counts = (
        "clips=8",
        "held_out_clips=4",
        "shape_clips=4",
        "held_out_shape_clips=4",
        "workers=1",
        "movement_steps=1",
        "readout_steps=1",
        "colours_steps=1",
        "readout_clips=8",
    )
    small = ["trainer.max_steps=1", "trainer.num_threads=1", "model.micro_batch_size=5"]
    small += [f"model.data.scenes.{count}" for count in counts]
    places = [f"exp_manager.exp_dir={tmp_path / 'run'}", f"exp_manager.export_dir={tmp_path / 'model'}"]
    places.append(f"model.data.scenes.photographs={tmp_path}")  # none: pictures of noise
    shapes = write_shapes_model(tmp_path / "shapes")
    places.append(f"model.restore_from_path={shapes}")
    settings, _ = read_training_settings(ROOT / "config" / "demo-scenes.yaml", [*small, *places], "finetune")

    train(settings, "finetune")

    score = json.loads((tmp_path / "run" / "score.json").read_text())
    assert {"shapes", "minutes"} <= set(score) <= {*KINDS, "shapes", "minutes"}
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [record["stage"] for record in log] == ["movement", "sentences", "readout", "colours"]
    model, report = LlavaForConditionalGeneration.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values()), report
    assert sum(weight.numel() for weight in model.parameters()) <= 6_000_000
    ours, old = (AutoProcessor.from_pretrained(folder).tokenizer for folder in (tmp_path / "model", shapes))
    assert ours.get_vocab() == old.get_vocab()
