"""The first stage learns: a fresh projector in the bundled model, trained alone, answers for held-out clips.

The user's own path all the way: clips in a tar and conversations in LLaVA's JSON, `captiond pretrain` with tower and
language model frozen, `captiond evaluate` in vLLM over clips of unseen seeds, before and after. With `--folder` the
data and the run are kept, and a run that was cut off goes on.

    python -m bench.training.stage_one [--clips 3000] [--steps 600] [--held-out 300] [--folder build/stage-one]
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from neva.shapes.scenes import HELD_OUT_SEEDS, TRAINING_SEEDS, caption_of, encode_clip, random_scene

WANTED = 0.90
QUESTION = "Describe this video."
FIRST_HELD_OUT = HELD_OUT_SEEDS.start + 3_000_000  # clips that nothing else is scored on


def write_clips(archive: Path, seeds: range) -> dict[str, str]:
    """Write the clips of ``seeds`` into a tar, unless it is there; return the right caption of each name."""
    captions = {f"{seed}.mp4": caption_of(random_scene(seed)) for seed in seeds}
    if archive.exists():
        return captions
    part = archive.with_suffix(".part")
    with tarfile.open(part, "w") as tar:
        for seed in seeds:
            encoded = encode_clip(random_scene(seed))
            member = tarfile.TarInfo(f"{seed}.mp4")
            member.size = len(encoded)
            tar.addfile(member, io.BytesIO(encoded))
    part.replace(archive)
    return captions


def write_conversations(path: Path, captions: dict[str, str]) -> None:
    """Write LLaVA's JSON."""
    records = [
        {
            "id": name,
            "video": name,
            "conversations": [{"from": "human", "value": f"<video>{QUESTION}"}, {"from": "gpt", "value": caption}],
        }
        for name, caption in captions.items()
    ]
    path.write_text(json.dumps(records))


def run(*command: str, quiet: bool = False) -> None:
    """Run a command of captiond and see it succeed; a quiet one speaks only when it fails."""
    done = subprocess.run([sys.executable, "-m", "daemon", *command], capture_output=quiet, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"captiond {command[0]} ended with {done.returncode}.\n{(done.stderr or '')[-3000:]}")


def pretrain(folder: Path, name: str, steps: int) -> Path:
    """Train the projector for ``steps`` steps; return the model's folder."""
    run(
        "pretrain",
        *(f"exp_manager.exp_dir={folder / name}", "exp_manager.every_n_train_steps=50"),
        *(f"trainer.max_steps={steps}", "trainer.precision=32"),
        *("model.micro_batch_size=32", "model.mm_cfg.llm.model_type=mistral"),
        *("model.mm_cfg.llm.from_pretrained=bundled", "model.mm_cfg.vision_encoder.from_pretrained=bundled"),
        *("model.mm_cfg.vision_encoder.vision_select_layer=-1", "model.mm_cfg.mm_mlp_adapter_type=mlp2x_gelu"),
        *(f"model.data.data_path={folder / 'training.json'}", f"model.data.video_folder={folder / 'training.tar'}"),
        "model.data.cache_features=true",
    )
    return folder / name / "model"


def accuracy(folder: Path, model: Path, captions: dict[str, str]) -> float:
    """Return the share of clips that ``model`` captions right to the word."""
    answers = folder / f"{model.parent.name}-answers.jsonl"
    run(
        "evaluate",
        *(f"neva_model_file={model}", "tensor_model_parallel_size=1", "trainer.devices=1", "trainer.precision=32"),
        *(f"prompt_file={folder / 'prompts.jsonl'}", f"output_file={answers}", "inference.greedy=true"),
        *(f"inference.media_base_path={folder / 'held-out.tar'}", "inference.media_type=video"),
        *("inference.insert_media_token=left", "inference.tokens_to_generate=24"),
        *("+engine.max_model_len=512", "+engine.args.enforce_eager=true"),
        quiet=True,
    )
    said = [json.loads(line) for line in answers.read_text().splitlines()]
    right = [record["pred_answer"] == captions[record["video"]] for record in said]
    return right.count(True) / len(captions)


def main() -> int:
    """Make the data, train, ask and print; 1 where too few answers are right."""
    parser = argparse.ArgumentParser(prog="python -m bench.training.stage_one", description=__doc__)
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--held-out", type=int, default=300)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="captiond-stage-one-") as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        write_conversations(
            folder / "training.json", write_clips(folder / "training.tar", TRAINING_SEEDS[: given.clips])
        )
        held_out = range(FIRST_HELD_OUT, FIRST_HELD_OUT + given.held_out)
        captions = write_clips(folder / "held-out.tar", held_out)
        prompts = [json.dumps({"video": name, "text": QUESTION}) + "\n" for name in captions]
        (folder / "prompts.jsonl").write_text("".join(prompts))
        began_s = time.monotonic()
        trained = pretrain(folder, "trained", given.steps)
        took_s = time.monotonic() - began_s
        before = accuracy(folder, pretrain(folder, "fresh", 0), captions)
        after = accuracy(folder, trained, captions)
    print(f"{given.steps} steps of 32 clips, the projector alone, from {given.clips} clips, in {took_s:.0f} s.")
    print(f"{given.held_out} held-out clips right to the word: {100 * before:.1f} % before, {100 * after:.1f} % after.")
    return 0 if after >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
