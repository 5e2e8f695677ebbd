"""The engine of an evaluation gets the sampling that NeVA's keys really stand for."""

from neva.evaluate.engine import daemon_settings, prompt_of
from neva.evaluate.settings import EvaluateSettings, read_evaluate_settings
from neva.media_settings import ModelSettings

ONE_DEVICE = ["tensor_model_parallel_size=1", "trainer.devices=1"]


def read(*overrides: str) -> EvaluateSettings:
    return read_evaluate_settings(None, None, [*ONE_DEVICE, *overrides])[0]


def sampling(*overrides: str) -> tuple[float, float, int, float]:
    prompt = prompt_of(read(*overrides), ModelSettings.model_validate({"conv_template": "v1"}))
    return prompt.temperature, prompt.top_p, prompt.top_k, prompt.repetition_penalty


def test_sampling_is_what_neva_really_does() -> None:
    assert sampling() == (0.2, 0.9, 0, 1.0)
    assert sampling("inference.greedy=True", "inference.top_k=5") == (0.0, 1.0, 0, 1.0)
    assert sampling("inference.temperature=1", "inference.top_p=0", "inference.top_k=7") == (1.0, 1.0, 7, 1.0)
    assert sampling("inference.top_p=1.0")[1] == 1.0


def test_log_probabilities_and_the_penalty_that_comes_with_them() -> None:
    media = ModelSettings.model_validate({"conv_template": "v1"})
    asked = {"": None, "compute_logprob": 0, "all_probs": 5}

    found = {key: prompt_of(read(*[f"inference.{key}=True"] if key else []), media) for key in asked}

    assert {key: prompt.logprobs for key, prompt in found.items()} == asked
    assert [prompt.repetition_penalty for prompt in found.values()] == [1.0, 1.2, 1.0]


def test_the_prompt_carries_template_and_ends() -> None:
    prompt = prompt_of(
        read("inference.tokens_to_generate=9", "inference.min_tokens_to_generate=2", 'inference.end_strings=["END"]'),
        ModelSettings.model_validate({"conv_template": "nvgpt"}),
    )

    assert (prompt.template, prompt.max_tokens, prompt.min_tokens, prompt.stop) == ("nvgpt", 9, 2, ("END",))


def test_what_the_engine_is_told() -> None:
    media = ModelSettings.model_validate({"num_frames": 4})

    inner = daemon_settings(read("trainer.precision=32", "+engine.args.max_num_seqs=4"), "/a", media, "prompts")

    assert inner.engine.model_dump() | {"model": "/a"} == {
        "kind": "vllm",
        "model": "/a",
        "adapter": None,
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "data_parallel_size": 1,
        "renderers": "auto",
        "dtype": "float32",
        "quantization": None,
        "max_model_len": None,
        "args": {"enable_prefix_caching": True, "mm_processor_cache_gb": 1, "max_num_seqs": 4},
    }
    assert inner.frames.num_frames == 4
