"""Training in folders of its own, on the bundled model's parts, for the tests of both stages."""

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from neva.checkpoints.hf_folder import read_tensors
from neva.shapes.scenes import caption_of, encode_clip, random_scene
from neva.training.config_file import read_training_settings
from neva.training.settings import Stage

MARKS = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    *(pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning", "UserWarning")),
]
CLIPS, STEPS = 6, 4
PARTS = {
    "tower": "vision_tower.",
    "projector": "multi_modal_projector.",
    "llm": "language_model.",
}


def write_data(folder: Path) -> Path:
    """Write clips, into a folder and into a tar, and conversations about them."""
    (folder / "clips").mkdir()
    records = []
    with tarfile.open(folder / "clips.tar", "w") as archive:
        for number in range(CLIPS):
            scene, name = random_scene(number, length_s=0.4), f"{number}.mp4"
            encoded = encode_clip(scene)
            (folder / "clips" / name).write_bytes(encoded)
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(encoded)
            archive.addfile(member, io.BytesIO(encoded))
            records.append(conversation(name, caption_of(scene)))
    (folder / "data.json").write_text(json.dumps(records))
    return folder


def conversation(video: str, answer: str) -> dict[str, Any]:
    said = [{"from": "human", "value": "<video>Describe this video."}, {"from": "gpt", "value": answer}]
    return {"id": video, "video": video, "conversations": said}


class Bench:
    """Runs training in folders of its own."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self._data = folder, data

    def config(self, name: str, *overrides: str) -> list[str]:
        return [
            f"exp_manager.exp_dir={self.folder / name}",
            f"trainer.max_steps={STEPS}",
            *("trainer.log_every_n_steps=1", "trainer.num_threads=1", "trainer.precision=32"),
            *("model.micro_batch_size=2", "model.mm_cfg.llm.model_type=mistral", "model.data.num_workers=0"),
            f"model.data.data_path={self._data / 'data.json'}",
            f"model.data.video_folder={self._data / 'clips'}",
            "model.data.num_frames=4",
            "model.optim.sched.warmup_steps=1",
            *overrides,
        ]

    def fresh(self, name: str, *overrides: str) -> list[str]:
        """Return a first stage's settings: the bundled model's parts around a new projector."""
        parts = [f"model.mm_cfg.{part}.from_pretrained=bundled" for part in ("llm", "vision_encoder")]
        parts += ["model.mm_cfg.vision_encoder.vision_select_layer=-1", "model.mm_cfg.mm_mlp_adapter_type=mlp2x_gelu"]
        return self.config(name, *parts, *overrides)

    def train(self, arguments: list[str], stage: Stage = "pretrain") -> Path:
        from neva.train import train

        settings, _ = read_training_settings(None, arguments, stage)
        return train(settings, stage)

    def losses(self, name: str) -> list[float]:
        lines = (self.folder / name / "log.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]


def changed(model: Path, from_model: Path) -> set[str]:
    """Return which parts of a model folder differ from another one's."""
    before, after = dict(read_tensors(from_model)), dict(read_tensors(model))
    assert before.keys() == after.keys()
    found = {name for name in before if not torch.equal(before[name].float(), after[name].float())}
    return {part for part, prefix in PARTS.items() if any(name.startswith(prefix) for name in found)}


@contextmanager
def fresh_accelerate() -> Iterator[None]:
    """Forget what Accelerate keeps of an earlier run in this process, and give torch its threads back after."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
