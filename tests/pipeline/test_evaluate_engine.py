"""Both command lines of NeVA's guide in the real vLLM, with only paths and sizes changed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("vllm")

from tests import nemo_fixtures as made
from tests.nemo_fixtures import Checkpoint
from tests.pipeline.test_evaluate import COMMAND, HOUSE
from tests.pipeline.test_neva_frames import write_clip

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(560)]


def guide(folder: Path, *models: str) -> list[str]:
    """Return the arguments of the guide's command line."""
    return [
        "evaluate",
        f"--config-path={HOUSE / 'config'}",
        "--config-name=neva_inference.yaml",
        "tensor_model_parallel_size=1",
        "pipeline_model_parallel_size=1",
        *models,
        "trainer.devices=1",
        "trainer.precision=bf16",
        f"prompt_file={folder / 'prompts.jsonl'}",
        f"inference.media_base_path={folder}",
        "inference.media_type=video",
        f"output_file={folder / 'out.jsonl'}",
        "inference.temperature=0.2",
        "inference.top_k=0",
        "inference.top_p=0.9",
        "inference.greedy=False",
        "inference.add_BOS=False",
        "inference.all_probs=False",
        "inference.repetition_penalty=1.2",
        "inference.insert_media_token=right",
        "inference.tokens_to_generate=8",
        "quantization.algorithm=awq",
        "quantization.enable=False",
        f"+import_nemo.cache_dir={folder / 'cache'}",
        "+engine.max_model_len=512",
        "+engine.args.max_num_seqs=4",
    ]


def run(folder: Path, *models: str) -> tuple[list[dict[str, object]], str]:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *guide(folder, *models)],
        cwd=HOUSE,
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
