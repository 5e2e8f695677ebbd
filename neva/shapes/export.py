"""Writing the bundled model: float32 weights, tokenizer, processor and chat template in Hugging Face's layout."""

from pathlib import Path
from typing import Any

from neva.training.export import served_name


def export_model(folder: Path, llava: Any, processor: Any) -> None:
    """Write configuration, float32 weights, tokenizer, processor and chat template of ``llava`` into ``folder``."""
    from safetensors.torch import save_file
    from transformers import GenerationConfig

    folder.mkdir(parents=True, exist_ok=True)
    llava.config.architectures = ["LlavaForConditionalGeneration"]
    llava.config.dtype = "float32"
    llava.config.save_pretrained(folder)
    tokenizer = processor.tokenizer
    GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
    ).save_pretrained(folder)
    processor.save_pretrained(folder)
    weights = {
        served_name(name): tensor.detach().cpu().float().contiguous() for name, tensor in llava.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes files that only their owner reads
