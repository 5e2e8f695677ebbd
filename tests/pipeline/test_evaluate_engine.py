"""Both command lines of NeVA's guide in the real vLLM, with only paths and sizes changed."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from testing.repository import ROOT

pytest.importorskip("vllm")

from neva.checkpoints.import_nemo import ImportRequest, import_nemo
from neva.media_settings import ModelSettings
from neva.shapes import scenes as shapes
from testing import nemo_checkpoints as made
from testing.megatron_files import DATA, written_tower
from testing.nemo_checkpoints import Checkpoint
from tests.nevas_guide import ANSWER
from tests.pipeline.test_evaluate import COMMAND
from tests.pipeline.test_neva_frames import shown, write_clip
from tests.unit.neva.checkpoints.nemo_parts import assert_same, weights

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(560)]


def guide(folder: Path, *models: str) -> list[str]:
    """Return the arguments of the guide's command line."""
    return [
        "evaluate",
        f"--config-path={ROOT / 'config'}",
        "--config-name=neva_inference.yaml",
        "tensor_model_parallel_size=1",
        "pipeline_model_parallel_size=1",
        "trainer.devices=1",
        "trainer.precision=bf16",
        f"prompt_file={folder / 'prompts.jsonl'}",
        f"inference.media_base_path={folder}",
        "inference.media_type=video",
        f"output_file={folder / 'out.jsonl'}",
        *ANSWER,
        "inference.tokens_to_generate=16",
        "quantization.algorithm=awq",
        "quantization.enable=False",
        f"+import_nemo.cache_dir={folder / 'cache'}",
        "+engine.max_model_len=512",
        "+engine.args.max_num_seqs=4",
        "+engine.args.enforce_eager=True",
        *models,
    ]


def run(folder: Path, *models: str) -> tuple[list[dict[str, Any]], str]:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *guide(folder, *models)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()], done.stdout


def test_both_command_lines(tmp_path: Path) -> None:
    made.make_tower(tmp_path / "clip")
    tokenizer = made.make_tokenizer(tmp_path / "tokenizer")
    config = made.model_config(tmp_path / "clip", tmp_path / "tokenizer")
    language = made.to_mcore(made.make_language(len(tokenizer)))
    projector = made.make_projector()
    whole = Checkpoint(config, made.layout(language | projector, "mp_rank")).as_tar(tmp_path / "finetuned.nemo")
    alone = Checkpoint(config, made.layout(projector, "single")).as_tar(tmp_path / "projector.nemo")
    base = Checkpoint(config | {"mm_cfg": None}, made.layout(language, "single")).as_tar(tmp_path / "llama.nemo")
    write_clip(tmp_path / "video_test.mp4", 9)
    record = {"video": "video_test.mp4", "text": "Can you describe the scene?", "category": "conv", "question_id": 0}
    (tmp_path / "prompts.jsonl").write_text(json.dumps(record) + "\n")

    first, said = run(tmp_path, f"neva_model_file={alone}", f"base_model_file={base}")
    second, _ = run(tmp_path, f"neva_model_file={whole}")

    for answers in (first, second):
        (answer,) = answers
        assert answer["prompt"] == "Can you describe the scene?<video>"
        assert "pred_answer" in answer
        assert "error" not in answer
    assert "CLEAN RESPONSE: " in said
    assert len(list((tmp_path / "cache").iterdir())) == 2


def megatrons(folder: Path, *models: str) -> list[str]:
    """Return the arguments for checkpoints that megatron-core wrote, greedy and in 32 bits so that answers compare."""
    return [
        *models,
        f"+import_nemo.vision_tower={folder / 'clip'}",
        f"+import_nemo.tokenizer={folder / 'tokenizer'}",
        "inference.greedy=True",
        "trainer.precision=32",
    ]


@pytest.mark.thorough
async def test_both_command_lines_with_checkpoints_that_megatron_wrote(tmp_path: Path) -> None:
    written_tower(tmp_path / "clip")
    made.make_tokenizer(tmp_path / "tokenizer")
    for number in range(3):
        write_clip(tmp_path / f"{number}.mp4", 7 + 4 * number)
    asked = [{"video": f"{number}.mp4", "text": "What is there?", "category": "conv"} for number in range(3)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(record) + "\n" for record in asked))
    named = [f"neva_model_file={DATA / 'projector-tp2.nemo'}", f"base_model_file={DATA / 'base-tp2.nemo'}"]

    answers, _ = await asyncio.to_thread(run, tmp_path, *megatrons(tmp_path, *named))

    (folder,) = (tmp_path / "cache").iterdir()
    expected = [
        await asyncio.to_thread(transformers_says, folder, await frames_of(tmp_path / record["video"]), answer)
        for record, answer in zip(asked, answers, strict=True)
    ]
    assert [answer["pred_answer"] for answer in answers] == expected
    whole = import_nemo(
        ImportRequest(
            DATA / "stacked-tp1.nemo",
            tmp_path / "whole",
            vision_tower=str(tmp_path / "clip"),
            tokenizer=str(tmp_path / "tokenizer"),
        )
    )
    assert_same(weights(whole), weights(folder))  # the second command line's model: the same tensors, on one rank


async def frames_of(path: Path) -> list[Any]:
    media = ModelSettings.model_validate({"num_frames": 4, "conv_template": "v1"})
    return [frame.copy() for frame in (await shown(path, media, "av")).frames]


def transformers_says(folder: Path, frames: list[Any], answer: dict[str, Any]) -> str:
    """Return the greedy answer of transformers to the question in a record, its frames where ``<video>`` stands."""
    import torch
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    processor = AutoProcessor.from_pretrained(folder)
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    question = str(answer["full_text"]).removesuffix(str(answer["pred_answer"]))
    text = question[: question.index("ASSISTANT:") + len("ASSISTANT:")].replace("<video>", "<extra_id_3>" * len(frames))
    inputs = processor(text=text, images=frames, return_tensors="pt")
    with torch.inference_mode():
        ids = model.generate(**inputs, do_sample=False, max_new_tokens=16)[0, inputs["input_ids"].shape[1] :]
    return str(processor.tokenizer.decode(ids, skip_special_tokens=True)).strip()


SEEDS = (17_500_001, 17_500_002)  # held out


def write_shapes(folder: Path) -> list[str]:
    """Write two clips and a prompt file about them; return the right captions."""
    for number, seed in enumerate(SEEDS):
        shapes.write_clip(folder / f"{number}.mp4", shapes.random_scene(seed))
    records = [{"video": f"{n}.mp4", "text": "Describe this video.", "category": "detail"} for n in range(len(SEEDS))]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return [shapes.caption_of(shapes.random_scene(seed)) for seed in SEEDS]


@pytest.mark.thorough
def test_the_bundled_model_answers_by_the_second_command_line(tmp_path: Path) -> None:
    right = write_shapes(tmp_path)

    answers, said = run(tmp_path, "neva_model_file=bundled", "inference.compute_logprob=True")

    assert [answer["pred_answer"] for answer in answers] == right
    assert [line for line in said.splitlines() if line.startswith("CLEAN RESPONSE: ")] == [
        f"CLEAN RESPONSE: {caption}" for caption in right
    ]
    for answer, caption in zip(answers, right, strict=True):
        assert "".join(token["token"] for token in answer["logprobs"][:-1]).strip() == caption
        assert all(-1 < token["logprob"] <= 0 for token in answer["logprobs"])


@pytest.mark.thorough
def test_a_model_that_was_fine_tuned_here_is_served_alone(tmp_path: Path) -> None:
    right = write_shapes(tmp_path)
    talks = [
        [{"from": "human", "value": "<video>Describe this video."}, {"from": "gpt", "value": caption}]
        for caption in right
    ]
    data = [{"video": f"{number}.mp4", "conversations": talk} for number, talk in enumerate(talks)]
    (tmp_path / "data.json").write_text(json.dumps(data))
    tuning = [
        *(f"exp_manager.exp_dir={tmp_path / 'run'}", "trainer.max_steps=2", "trainer.num_threads=1"),
        *(f"model.data.data_path={tmp_path / 'data.json'}", f"model.data.video_folder={tmp_path}"),
        *("model.restore_from_path=bundled", "model.mm_cfg.llm.model_type=mistral", "model.data.num_workers=0"),
    ]
    subprocess.run([sys.executable, "-m", "daemon", "finetune", *tuning], cwd=ROOT, check=True)
    model = tmp_path / "run" / "model"

    answers, _ = run(tmp_path, f"neva_model_file={model}", "inference.insert_media_token=left")
    sizes = ["engine.max_model_len=512", "engine.args.max_num_seqs=4", "engine.args.enforce_eager=true"]
    shown = subprocess.run(
        [sys.executable, "-m", "daemon", "caption", str(tmp_path / "0.mp4"), "--format=json", f"--model={model}"]
        + [f"--set={size}" for size in sizes]
        + ["--set=generation.max_tokens=24", "--set=windows.policy=whole"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"},
    )

    assert [answer["pred_answer"] for answer in answers] == right
    assert str(answers[0]["full_text"]).startswith(" [INST] <video>Describe this video. [/INST]")
    assert shown.returncode == 0, shown.stderr[-3000:]
    assert json.loads(shown.stdout)["text"].strip() == right[0]
