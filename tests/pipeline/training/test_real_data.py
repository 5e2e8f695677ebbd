"""Training on real files: odd records of every kind, several files, validation, and a run that goes on."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neva.checkpoints.hf_folder import read_tensors
from tests.pipeline.training.bench import MARKS, Bench, conversation
from tests.unit.neva.training.dataset.test_record_set import ODD
from tests.unit.neva.training.dataset.test_records import first_answer, talk

pytestmark = [mark for mark in MARKS if mark.name != "slow"]


def log_of(bench: Bench, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (bench.folder / name / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("template", ["plain", "v1"])
def test_every_kind_of_odd_record_beside_good_ones(
    bench: Bench, data: Path, caplog: pytest.LogCaptureFixture, template: str
) -> None:
    good = json.loads((data / "data.json").read_text())[:2]
    odd = [
        talk("Hello", "Good day."),
        first_answer(talk("<video>What?", "A dog.", video="0.mp4")),
        talk("<video>What?", "A dog.", "And?", video="0.mp4"),
        talk("What?", "A dog.", video="0.mp4"),
        talk("<video>What?", "A dog."),
        talk("<video>First.<video>Then?", "A dog.", video=["0.mp4", "1.mp4"]),
        conversation("gone.mp4", "Nothing."),
        *ODD,
    ]
    (bench.folder / "odd.json").write_text(json.dumps([*odd, *good]))
    (bench.folder / "more.jsonl").write_text("nonsense\n" + json.dumps(good[0]))
    places = [f"model.data.data_path=[{bench.folder / 'odd.json'},{bench.folder / 'more.jsonl'}]"]
    places += ["model.data.concat_sampling_probabilities=[0.8,0.2]", "model.data.dataloader_type=single"]
    held_out = [f"model.data.validation.data_path={data / 'data.json'}", "trainer.val_check_interval=2"]
    more = [f"model.data.conv_template={template}", "trainer.max_steps=3", "trainer.limit_val_batches=2"]

    with caplog.at_level(logging.INFO):
        bench.train(bench.fresh("odd", *places, *held_out, *more, "model.micro_batch_size=3"))

    losses = [record["loss"] for record in log_of(bench, "odd") if "loss" in record]
    assert len(losses) == 3
    assert np.isfinite(losses).all()
    assert [(record["step"]) for record in log_of(bench, "odd") if "val_loss" in record] == [2, 3]
    assert "2 skipped: it is no JSON object; the first is record 8 of" in caplog.text
    assert "1 skipped: its line is not JSON; the first is record 1 of" in caplog.text
    assert "is not learned from: gone.mp4: " in caplog.text


def test_images_that_steerlms_tags_name_are_seen(bench: Bench) -> None:
    (bench.folder / "images").mkdir()
    Image.new("RGB", (80, 60), (200, 10, 10)).save(bench.folder / "images" / "red.png")
    lines = {
        "tag": talk('<img src="/else/where/red.png">\nWhich colour?', "Red."),
        "token": talk("<image>\nWhich colour?", "Red.", image="red.png"),
        "text": talk("Which colour?", "Red."),
    }
    for name, record in lines.items():
        (bench.folder / f"{name}.jsonl").write_text(json.dumps(record))
        places = [f"model.data.data_path={bench.folder / name}.jsonl", "model.data.media_type=image"]
        places += [f"model.data.image_folder={bench.folder / 'images'}", "trainer.max_steps=1"]
        bench.train(bench.fresh(name, *places, "model.micro_batch_size=1", "model.seed=5"))

    assert bench.losses("tag") == bench.losses("token") != bench.losses("text")


def test_validation_changes_nothing_and_a_run_with_workers_goes_on_to_the_same_model(
    bench: Bench, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neva.training.run.progress import TrainingProgress

    both = f"model.data.data_path=[{data / 'data.json'},{data / 'data.json'}]"
    steps = ["trainer.max_steps=4", "exp_manager.every_n_train_steps=2", both]
    held_out = [f"model.data.validation.data_path={data / 'data.json'}", "trainer.val_check_interval=1"]
    whole = bench.train(bench.fresh("whole", *steps))
    reported = TrainingProgress.report

    def end_after_three(self: TrainingProgress, done: int, losses: dict[str, float], learning_rate: float) -> None:
        reported(self, done, losses, learning_rate)
        if done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingProgress, "report", end_after_three)
    with pytest.raises(KeyboardInterrupt):
        bench.train(bench.fresh("cut", *steps, *held_out, "model.data.num_workers=2"))
    monkeypatch.undo()
    again = bench.train(bench.fresh("cut", *steps, *held_out, "model.data.num_workers=2"))

    cut = log_of(bench, "cut")
    assert [record["loss"] for record in cut if "loss" in record] == bench.losses("whole")
    assert [record["step"] for record in cut if "val_loss" in record] == [1, 2, 3, 4]
    one, two = dict(read_tensors(whole)), dict(read_tensors(again))
    assert all(np.array_equal(two[name].float().numpy(), tensor.float().numpy()) for name, tensor in one.items())


def test_a_step_whose_clips_are_gone_does_not_end_the_run(bench: Bench, data: Path) -> None:
    records = [conversation("gone.mp4", "Nothing."), *json.loads((data / "data.json").read_text())[:1]]
    (bench.folder / "gone.json").write_text(json.dumps(records))
    places = [f"model.data.data_path={bench.folder / 'gone.json'}", "model.data.dataloader_type=single"]

    bench.train(bench.fresh("gone", *places, "model.micro_batch_size=1", "trainer.max_steps=2"))

    nothing, something = bench.losses("gone")
    assert nothing is None
    assert something > 0
