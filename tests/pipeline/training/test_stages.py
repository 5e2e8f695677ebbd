"""Both stages of training from LLaVA-style JSON, on the bundled model's parts: what learns, resumes, splits.

Every run is a real one: real clips through the real decoder, real weights, the optimiser, and the model it exports.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from connectors.errors import ConfigurationError
from daemon.engines.model.bundled import bundled_model
from neva.checkpoints.model_folder.facts import read_facts
from neva.checkpoints.model_folder.hf_folder import read_tensors
from testing.ports import free_port
from testing.repository import ROOT
from tests.pipeline.training.bench import MARKS, STEPS, Bench, changed, conversation

pytestmark = MARKS


def test_the_first_stage_learns_the_projector_alone_and_the_second_the_language_model_too(bench: Bench) -> None:
    start = bench.train(bench.fresh("start", "trainer.max_steps=0"))
    first = bench.train(bench.fresh("first", f"trainer.max_steps={4 * STEPS}", "model.micro_batch_size=6"))
    second = bench.train(bench.config("second", f"model.restore_from_path={first}"), "finetune")

    assert changed(start, bundled_model()) == {"projector"}
    assert changed(first, start) == {"projector"}
    assert changed(second, first) == {"projector", "llm"}
    losses = bench.losses("first")
    assert losses[-1] < 0.5 * losses[0]
    assert (bench.folder / "first" / "loss.png").read_bytes().startswith(b"\x89PNG")
    facts = read_facts(second)
    assert (facts.conv_template, facts.num_frames, facts.media_type) == ("mistral", 4, "video")


def test_a_tar_a_cache_and_workers_teach_the_same(bench: Bench, data: Path) -> None:
    bench.train(bench.fresh("folder"))
    bench.train(bench.fresh("tar", f"model.data.video_folder={data / 'clips.tar'}", "model.data.num_workers=2"))
    bench.train(bench.fresh("cache", "model.data.cache_features=true"))
    bench.train(bench.fresh("cache", "model.data.cache_features=true", "exp_manager.resume_if_exists=false"))

    assert bench.losses("tar") == bench.losses("folder")
    np.testing.assert_allclose(bench.losses("cache"), bench.losses("folder"), rtol=1e-4)


def test_a_step_is_the_same_however_it_is_cut(bench: Bench) -> None:
    """Two steps are compared: the model has steep thresholds, by which rounding grows from step to step."""
    steps = "trainer.max_steps=3"
    bench.train(bench.fresh("whole", steps, "model.micro_batch_size=4", "model.global_batch_size=4"))
    bench.train(bench.fresh("cut", steps, "model.micro_batch_size=1", "model.global_batch_size=4"))

    assert len(bench.losses("cut")) == 3  # the last one says what the second step made
    np.testing.assert_allclose(bench.losses("cut"), bench.losses("whole"), rtol=1e-4)


def test_activations_that_are_computed_again_teach_the_same(bench: Bench) -> None:
    everything = ["model.restore_from_path=bundled", "model.mm_cfg.vision_encoder.freeze=false"]
    for name, more in (("kept", []), ("again", ["model.activations_checkpoint_granularity=full"])):
        bench.train(bench.config(name, *everything, *more), "finetune")

    np.testing.assert_allclose(bench.losses("again"), bench.losses("kept"), rtol=1e-5)


@pytest.mark.parametrize("cached", [False, True])
def test_clips_that_can_not_be_read_teach_nothing_and_are_named(
    bench: Bench, data: Path, caplog: pytest.LogCaptureFixture, cached: bool
) -> None:
    records = json.loads((data / "data.json").read_text())[:2]
    broken = [conversation("gone.mp4", "A dog."), conversation("../../etc/passwd", "Root.")]
    path = bench.folder / "broken.json"
    path.write_text(json.dumps([*records, *broken]))
    size = ["model.micro_batch_size=4", "trainer.max_steps=1", f"model.data.cache_features={cached}"]
    path_key = f"model.data.data_path={path}"

    bench.train(bench.fresh("broken", path_key, *size))

    assert "Record 3 is not learned from: gone.mp4: " in caplog.text
    assert "Record 4 is not learned from: ../../etc/passwd: " in caplog.text
    assert "2 samples taught nothing: the log says why of each." in caplog.text
    path.write_text(json.dumps(broken))
    with pytest.raises(ConfigurationError, match="none of its clips could be read"):
        bench.train(bench.fresh("nothing", path_key, *size))


def test_text_alone_is_learned_beside_videos(bench: Bench, data: Path) -> None:
    text = {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Good day."}]}
    path = bench.folder / "mixed.json"
    path.write_text(json.dumps([text, *json.loads((data / "data.json").read_text())[:1]]))

    arguments = [f"model.data.data_path={path}", "model.micro_batch_size=1", "model.data.dataloader_type=single"]
    bench.train(bench.config("mixed", "model.restore_from_path=bundled", *arguments), "finetune")

    assert len(bench.losses("mixed")) == STEPS


def command(arguments: list[str], launcher: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, "-m", *launcher, "daemon", "pretrain", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def test_images_teach_too(bench: Bench) -> None:
    (bench.folder / "images").mkdir()
    records = []
    for name, colour in (("red.png", (200, 10, 10)), ("blue.jpg", (10, 10, 200))):
        Image.new("RGB", (80, 60), colour).save(bench.folder / "images" / name)
        said = [{"from": "human", "value": "<image>\nWhich colour?"}, {"from": "gpt", "value": name.split(".")[0]}]
        records.append({"image": name, "conversations": said})
    (bench.folder / "images.json").write_text(json.dumps(records))
    places = [f"model.data.data_path={bench.folder / 'images.json'}", "model.data.media_type=image"]
    places += [f"model.data.image_folder={bench.folder / 'images'}", "trainer.max_steps=12"]

    model = bench.train(bench.fresh("images", *places))

    losses = bench.losses("images")
    assert losses[-1] < losses[0]
    facts = read_facts(model)
    assert (facts.media_type, facts.frames_shown) == ("image", 1)


def test_a_run_that_was_killed_goes_on_to_the_same_losses(bench: Bench) -> None:
    steps = ["trainer.max_steps=24", "exp_manager.every_n_train_steps=3"]
    bench.train(bench.fresh("whole", *steps))
    cut = bench.fresh("cut", *steps)

    run = subprocess.Popen(command(cut), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    log, deadline = bench.folder / "cut" / "log.jsonl", time.monotonic() + 200
    while time.monotonic() < deadline and run.poll() is None:
        if log.exists() and log.read_bytes().count(b"\n") >= 7:
            break
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    killed_after = len(bench.losses("cut"))
    assert 7 <= killed_after < 24
    done = subprocess.run(command(cut), cwd=ROOT, env=environment(), capture_output=True, text=True)

    assert done.returncode == 0, done.stderr[-2000:]
    first = int(done.stdout.split("pretrain ")[1].split("/")[0])
    assert first % 3 == 1  # right behind a checkpoint
    assert killed_after - 3 < first <= killed_after + 1
    np.testing.assert_allclose(bench.losses("cut"), bench.losses("whole"), rtol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_share_the_batch_and_learn_the_same(bench: Bench, strategy: str) -> None:
    shared = ["model.global_batch_size=4", "model.data.dataloader_type=single"]
    bench.train(bench.fresh("one", *shared))
    accelerate = ("accelerate.commands.launch", "--cpu", "--num_processes=2", f"--main_process_port={free_port()}")
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node=2")
    launcher = (*(accelerate if strategy == "ddp" else torchrun), "-m")
    arguments = bench.fresh("two", *shared, f"trainer.strategy={strategy}")

    done = subprocess.run(command(arguments, launcher), cwd=ROOT, env=environment(), capture_output=True, text=True)

    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(f"pretrain {STEPS}/{STEPS}") == 1  # one of the two speaks
    np.testing.assert_allclose(bench.losses("two"), bench.losses("one"), rtol=1e-4)
    one, two = (dict(read_tensors(bench.folder / name / "model")) for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4)


def test_a_gradient_is_clipped_to_its_norm(bench: Bench) -> None:
    start = bench.train(bench.fresh("start", "trainer.max_steps=0"))
    moved = {}
    for norm in (1.0, 1e-13):  # so small that Adam's epsilon outweighs it
        one = ["trainer.max_steps=1", f"trainer.gradient_clip_val={norm}"]
        model = bench.train(bench.config(f"clip{norm}", f"model.restore_from_path={start}", *one))
        before, after = dict(read_tensors(start)), dict(read_tensors(model))
        moved[norm] = max(float((after[name] - before[name]).abs().max()) for name in before)

    assert moved[1.0] > 1e-4
    assert moved[1e-13] < 1e-6
