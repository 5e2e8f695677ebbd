"""LoRA by the real command: a run whose loss falls, and the three folders that it writes."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from connectors.errors import ConfigurationError
from tests.pipeline.training.bench import MARKS, Bench, changed

pytestmark = MARKS

LORA = [
    "model.peft.peft_scheme=lora",
    "model.peft.lora_tuning.target_modules=[attention,mlp_fc1]",
    "model.peft.lora_tuning.adapter_dim=8",
]
QUICK = ["model.optim.lr=5e-3", "trainer.max_steps=24", "model.micro_batch_size=6"]


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=torch.arange(40, 60)[None]).logits
    return found


def test_the_loss_falls_and_the_adapter_over_its_base_is_the_merged_model(bench: Bench) -> None:
    from peft import PeftModel
    from transformers import LlavaForConditionalGeneration

    start = bench.train(bench.fresh("start", "trainer.max_steps=0"))
    merged = bench.train(bench.config("lora", f"model.restore_from_path={start}", *LORA, *QUICK), "finetune")

    losses, (base, adapter) = bench.losses("lora"), (bench.folder / "lora" / name for name in ("base", "adapter"))
    assert losses[-1] < 0.5 * losses[0]
    assert changed(merged, start) == {"projector", "llm"}
    assert changed(base, start) == {"projector"}
    assert changed(base, merged) == {"llm"}
    said = json.loads((adapter / "adapter_config.json").read_text())
    assert Path(said["base_model_name_or_path"]) == base
    below = LlavaForConditionalGeneration.from_pretrained(base)
    alone = logits(below)
    with_adapter = logits(PeftModel.from_pretrained(below, adapter))
    whole = logits(LlavaForConditionalGeneration.from_pretrained(merged))
    torch.testing.assert_close(with_adapter, whole, rtol=1e-4, atol=1e-4)  # two float32 sums in another order
    assert float((with_adapter - alone).abs().max()) > 0.1


def test_a_checkpoint_holds_the_adapter_and_a_frozen_projector_needs_no_base(bench: Bench) -> None:
    start = f"model.restore_from_path={bench.train(bench.fresh('start', 'trainer.max_steps=0'))}"
    frozen = "model.mm_cfg.freeze_mm_mlp_adapter=true"
    whole = bench.train(bench.config("whole", start, frozen, *LORA, "trainer.max_steps=4"), "finetune")
    shutil.copytree(whole, bench.folder / "before")
    shutil.rmtree(bench.folder / "whole" / "adapter")

    again = bench.train(bench.config("whole", start, frozen, *LORA, "trainer.max_steps=4"), "finetune")

    assert changed(again, bench.folder / "before") == set()
    assert changed(again, Path(start.partition("=")[2])) == {"llm"}
    assert not (bench.folder / "whole" / "base").exists()
    said = json.loads((bench.folder / "whole" / "adapter" / "adapter_config.json").read_text())
    assert f"model.restore_from_path={said['base_model_name_or_path']}" == start


def test_an_adapter_is_not_written_over_something_else(bench: Bench) -> None:
    (bench.folder / "run" / "adapter").mkdir(parents=True)

    with pytest.raises(ConfigurationError, match=r"exp_dir: .*holds something else than an adapter"):
        bench.train(bench.config("run", "model.restore_from_path=bundled", *LORA), "finetune")
