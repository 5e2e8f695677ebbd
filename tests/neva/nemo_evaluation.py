"""NeMo's evaluation script over one record, with an answer in the place of a model's."""

import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.neva.nemo_checkout import Nemo


class Config(dict[str, Any]):
    """A configuration whose keys are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            value = self[name]
        except KeyError as error:
            raise AttributeError(name) from error
        return Config(value) if isinstance(value, dict) else value


def evaluated(
    nemo: Nemo,
    kit: Any,
    template: str,
    record: dict[str, Any],
    media: str,
    placed: str | None,
    answer: str,
    folder: Path,
    *,
    separate: bool,
) -> tuple[str, dict[str, Any], str]:
    """Return the answer as an engine gives it, the record that NeMo's script writes, and what it prints of it."""
    said: list[str] = []

    def generate(model: Any, inputs: str, **_: Any) -> dict[str, Any]:
        del model
        text, whole = _decoded(nemo, kit, template, inputs, media, answer)
        said.append(text)
        return {"sentences": [whole]}

    model_config = Config(mm_cfg={"llm": {"model_type": "nvgpt"}}, data={"conv_template": template})
    model = SimpleNamespace(cfg=model_config, tokenizer=kit.theirs)
    model.generate = lambda **given: nemo.generation.megatron_neva_generate(
        model,
        given["input_prompts"],
        given["length_params"],
        given["sampling_params"],
        given["inference_config"],
    )
    nemo.generation.generate = generate
    nemo.evaluation.create_neva_model_and_processor = lambda _: (model, lambda _: "pixels", lambda _: "pixels")
    nemo.evaluation.DataLoader = lambda dataset, **_: [[dataset[number]] for number in range(len(dataset))]
    prompts, output = folder / "prompts.jsonl", folder / "answers.jsonl"
    prompts.write_text(json.dumps(record) + "\n")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        nemo.evaluation.main(_settings(prompts, output, media, placed, separate=separate))
    (written,) = [json.loads(line) for line in output.read_text().splitlines()]
    lines = printed.getvalue()
    return said[0], written, lines[lines.index("------------- PROMPT") :]


def _settings(prompts: Path, output: Path, media: str, placed: str | None, *, separate: bool) -> Config:
    inference = {
        **{"tokens_to_generate": 9, "min_tokens_to_generate": 0, "greedy": True, "temperature": 1.0, "top_k": 0},
        **{"top_p": 0.9, "repetition_penalty": 1.2, "add_BOS": False, "all_probs": False, "compute_logprob": False},
        **{"end_strings": [], "media_base_path": "/", "media_type": media, "insert_media_token": placed},
    }
    return Config(
        inference=inference,
        prompt_file=str(prompts),
        output_file=str(output),
        neva_model_file="a.nemo",
        add_media_sep=separate,
        quantization={"enable": False},
    )


def _decoded(nemo: Nemo, kit: Any, template: str, prompt: str, media: str, answer: str) -> tuple[str, str]:
    """Return the text of an answer's tokens behind a prompt's, and NeMo's text of all of them with the end token."""
    from tests.neva.comparisons import PATCHES, _config

    config = _config(template, media, marked=False) | {"add_extra_token": 0, "context_length": 100_000}
    ids = nemo.strategy.neva_process_prompts(prompt, kit.theirs, config, PATCHES, template)[0]
    space = " " if template in ("v1", "llama_2") else ""
    mark = kit.theirs.text_to_ids("<extra_id_1>")
    own = kit.theirs.text_to_ids(f"<extra_id_1>{space}{answer}")[len(mark) :]
    end = {"nvgpt": "\n<extra_id_1>", "nv_steerlm": "\n<extra_id_1>", "nv_dpo": "\n<extra_id_1>"}.get(template)
    last = kit.theirs.text_to_ids(f"<extra_id_1>{end}")[len(mark) :] if end else [kit.theirs.eos_id]
    text = kit.theirs.ids_to_text(ids + own)[len(kit.theirs.ids_to_text(ids)) :]
    return text, kit.theirs.ids_to_text(ids + own + last)
