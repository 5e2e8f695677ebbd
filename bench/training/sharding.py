"""Memory of a process that trains a share of a model, against one that trains the whole.

    python -m bench.training.sharding [--layers 12] [--width 768] [--steps 3]

A LLaVA of random weights, 114 million parameters by default, is trained for a few steps in float32 with everything but
its tower: by one process, then by two that share it (FSDP2). Measured is how much the resident memory of each process
grows from its imports to its peak, with loading and export, and next to it what the process says that it holds of
weights, gradients and the optimiser's state, and what the dry run said beforehand.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

WANTED = 0.6  # of one process's growth
_WORKER = "BENCH_SHARDING_RUN"


def write_data(folder: Path) -> None:
    """Write conversations without media."""
    said = [{"from": "human", "value": "Which number?"}, {"from": "gpt", "value": "It is the seventh of them all."}]
    (folder / "data.json").write_text(json.dumps([{"conversations": said}] * 8))


def write_model(folder: Path, width: int, layers: int) -> Path:
    """Write a LLaVA of random weights."""
    from testing.tiny_models.llava import build_llava

    model = folder / "llava"
    model.mkdir()
    heads = {"num_attention_heads": width // 64, "num_key_value_heads": width // 64}
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    build_llava(model, text=sizes | heads)
    return model


def arguments(folder: Path, model: Path, steps: int, strategy: str) -> list[str]:
    """Return the settings of a run."""
    return [
        f"exp_manager.exp_dir={folder / strategy}",
        f"model.restore_from_path={model}",
        f"trainer.strategy={strategy}",
        *(f"trainer.max_steps={steps}", "trainer.precision=32", "trainer.log_every_n_steps=1"),
        *("model.micro_batch_size=1", "model.global_batch_size=2", "model.encoder_seq_length=256"),
        *("model.mm_cfg.llm.model_type=mistral", "model.data.media_type=image", "model.data.num_workers=0"),
        *(f"model.data.data_path={folder / 'data.json'}", f"model.data.image_folder={folder}"),
    ]


def run(folder: Path, keys: list[str], processes: int) -> list[int]:
    """Train in ``processes``; return by how many bytes the memory of each grew."""
    out = Path(tempfile.mkdtemp(dir=folder))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", _WORKER: json.dumps({"out": str(out), "keys": keys})}
    done = subprocess.run(
        [*launcher, "-m", "bench.training.sharding"], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{processes} processes ended with {done.returncode}.\n{(done.stdout + done.stderr)[-3000:]}")
    return [int(path.read_text()) for path in sorted(out.iterdir())]


def train_and_measure(out: Path, keys: list[str]) -> None:
    """Train in this process, one of those that torchrun started, and write how much its memory grew."""
    import transformers.models.clip.modeling_clip
    import transformers.models.llama.modeling_llama
    import transformers.models.llava.modeling_llava  # noqa: F401 - what a run imports counts as no growth

    from neva.train import train
    from neva.training.config_file import read_training_settings

    settings, _ = read_training_settings(None, keys, "finetune")
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _status("VmRSS")
    train(settings, "finetune")
    (out / os.environ["RANK"]).write_text(str(_status("VmHWM") - before))


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def said_beforehand(keys: list[str], processes: int) -> int:
    """Return the bytes that the dry run expects on a device, without activations and what is gathered."""
    from neva.training.config_file import read_training_settings
    from neva.training.conversations import facts_of
    from neva.training.devices.estimate import estimate
    from neva.training.model import load_model

    settings, _ = read_training_settings(None, keys, "finetune")
    llava = load_model(settings, facts_of(settings), empty=True)
    return estimate(llava, settings, processes, sharded=processes > 1).held.total


def main() -> int:
    """Train both ways and compare; 0 when each share grew by less than wanted."""
    if worker := os.environ.get(_WORKER):
        asked = json.loads(worker)
        train_and_measure(Path(asked["out"]), asked["keys"])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12, help="of the language model")
    parser.add_argument("--width", type=int, default=768, help="a multiple of 64")
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    grown = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder)
        model = write_model(folder, options.width, options.layers)
        for strategy, processes in (("ddp", 1), ("fsdp2", 2)):
            keys = arguments(folder, model, options.steps, strategy)
            grown[strategy] = run(folder, keys, processes)
            rows = json.loads((folder / strategy / "devices.json").read_text())["devices"]
            held = max(sum(row.values()) for row in rows)
            said = said_beforehand(keys, processes)
            growth = ", ".join(f"{bytes_ / 1e6:.0f} MB" for bytes_ in grown[strategy])
            print(f"{processes} x {strategy}: grew by {growth}; holds {held / 1e6:.1f} MB, said {said / 1e6:.1f} MB")
    ratio = max(grown["fsdp2"]) / grown["ddp"][0]
    print(f"A share grew by {ratio:.2f} of what the whole grew by; wanted is less than {WANTED}.")
    return 0 if ratio < WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
