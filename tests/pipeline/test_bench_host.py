"""`captiond bench --host`: the host's side at a real model's shapes, with no weights and nothing that answers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from testing import tiny_models
from testing.load import write_load_clip
from testing.repository import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.thorough, pytest.mark.timeout(560)]


def test_each_part_of_the_host_is_measured_without_a_model(tmp_path: Path) -> None:
    model = tiny_models.build("qwen3_vl", tmp_path)
    (model / "model.safetensors").unlink()
    write_load_clip(tmp_path / "clip.mp4", windows=24)
    settings = ["frames.num_frames=8", "engine.renderers=1", "engine.max_model_len=1024", "engine.dtype=float32"]

    what = ["bench", "--host", str(tmp_path / "clip.mp4"), f"--model={model}", "--windows=6", "--format=json"]
    done = subprocess.run(
        [sys.executable, "-m", "daemon", *what, *(f"--set={one}" for one in settings)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"},
    )

    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["windows"] >= 6
    assert set(found["core_s_a_window"]) == {"decode", "render", "hand over", "all else"}
    assert found["render_s"] > 0
    assert found["vision_tokens"] >= 4 * found["windows"]
    assert found["pixels"] == found["windows"] * 8 * 64 * 64
    assert found["h100s"] == pytest.approx(
        found["windows_per_s"] * found["pixels"] / found["windows"] / (12 * 80 * 448 * 448)
    )
    assert found["windows_per_core_s"] == pytest.approx(1 / sum(found["core_s_a_window"].values()))
