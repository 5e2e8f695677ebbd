"""NeVA's keys, defaults and command lines; what is ignored is said, what is not there is refused."""

from pathlib import Path

import pytest

from connectors.errors import ConfigurationError
from neva.evaluate import model as evaluate_model
from neva.evaluate.engine import daemon_settings, prompt_of
from neva.evaluate.model import shown_media, vllm_quantization
from neva.evaluate.settings import EvaluateSettings, QuantizationSettings, read_evaluate_settings
from neva.media_settings import ModelSettings
from testing.repository import ROOT
from tests.nevas_guide import ANSWER

PROJECTOR = [
    "tensor_model_parallel_size=4",
    "pipeline_model_parallel_size=1",
    "neva_model_file=/path/to/projector/checkpoint",
    "base_model_file=/path/to/base/lm/checkpoint",
    "trainer.devices=4",
    "trainer.precision=bf16",
    "prompt_file=/path/to/prompt/file",
    "inference.media_base_path=/path/to/videos",
    "inference.media_type=video",
    "output_file=/path/for/output/file/",
    *ANSWER,
    "inference.tokens_to_generate=256",
    "quantization.algorithm=awq",
    "quantization.enable=False",
]
ONE_DEVICE = ["tensor_model_parallel_size=1", "trainer.devices=1"]


def read(*overrides: str) -> EvaluateSettings:
    return read_evaluate_settings(None, None, [*ONE_DEVICE, *overrides])[0]


def test_the_first_command_line_of_nevas_guide() -> None:
    settings, lines = read_evaluate_settings(ROOT / "config", "neva_inference.yaml", PROJECTOR)

    assert settings.base_model_file == "/path/to/base/lm/checkpoint"
    assert (settings.tensor_model_parallel_size, settings.trainer.devices) == (4, 4)
    assert settings.trainer.dtype == "bfloat16"
    assert settings.inference.insert_media_token == "right"  # noqa: S105 - no password
    assert [line.split(" ", 1)[0] for line in lines] == [
        "inference.add_BOS",
        "inference.repetition_penalty",
        "trainer.accelerator",
        "trainer.logger",
        "quantization.algorithm",
    ]


def test_the_second_command_line_has_no_base_model() -> None:
    given = [line for line in PROJECTOR if not line.startswith("base_model_file")]

    settings, _ = read_evaluate_settings(None, None, given)

    assert settings.base_model_file is None
    assert settings.neva_model_file == "/path/to/projector/checkpoint"


def test_the_file_that_ships_holds_the_defaults() -> None:
    shipped, _ = read_evaluate_settings(ROOT / "config", "neva_inference", [])

    assert shipped == read_evaluate_settings(None, None, [])[0]
    assert shipped.inference.temperature == 0.2
    assert shipped.inference.top_p == 0.9
    assert shipped.inference.end_strings == ("<extra_id_1>", "<extra_id_7>")
    assert shipped.trainer.devices == shipped.tensor_model_parallel_size == 8
    assert shipped.inference.media_type == "image"
    assert shipped.inference.insert_media_token is None


def test_nevas_own_file_is_taken_with_every_key_it_has(tmp_path: Path) -> None:
    (tmp_path / "neva_inference.yaml").write_text(
        "inference: {greedy: False, insert_media_token: left, batch_size: 4}\n"
        "trainer: {devices: 1, num_nodes: 1, accelerator: gpu, logger: False, precision: 16}\n"
        "cluster_type: BCP\ntensor_model_parallel_size: 1\npipeline_model_parallel_split_rank: 0\n"
        "checkpoint_dir: null\ncheckpoint_name: null\nhparams_file: null\n"
        "quality: 9\ntoxicity: 0\nhumor: 6\ncreativity: 6\nviolence: 0\nhelpfulness: 6\nnot_appropriate: 0\n"
        "server: False\nport: 5555\nweb_server: False\nshare: False\nusername: test\npassword: test2\nweb_port: 9889\n"
    )

    settings, lines = read_evaluate_settings(tmp_path, "neva_inference.yaml", ["+inference.seed=3"])

    assert settings.trainer.dtype == "float16"
    assert settings.inference.seed == 3
    assert "quality is ignored: NeVA's evaluation does not read it either." in lines
    assert any(line.startswith("port is ignored") for line in lines)
    assert any(line.startswith("inference.batch_size is ignored") for line in lines)


def test_names_of_nevas_first_release() -> None:
    settings = read("inference.images_base_path=/images", "inference.insert_image_token=left")

    assert settings.inference.media_base_path == Path("/images")
    assert settings.inference.insert_media_token == "left"  # noqa: S105 - no password


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("inference.temprature=1", r"inference\.temprature: unknown key"),
        ("nonsense=1", "nonsense: unknown key"),
        ("inference.insert_media_token=middle", r"inference\.insert_media_token"),
        ("inference.media_type=audio", r"inference\.media_type"),
        ("inference.min_tokens_to_generate=300", "is above tokens_to_generate"),
        ("trainer.devices=2", r"trainer\.devices x trainer\.num_nodes = 2 is not"),
        ("trainer.precision=8", r"trainer\.precision"),
        ("server=True", "server: NeVA's evaluation has no server"),
        ("web_server=True", "web_server: "),
        ("checkpoint_dir=/a", "checkpoint_dir: a PyTorch Lightning checkpoint is not read"),
        ("no equals sign", "is not an override"),
        ("~inference.top_k", "overridden, not deleted"),
    ],
)
def test_what_is_wrong_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read(override)


def test_more_than_one_machine_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="an engine runs on one machine"):
        read("trainer.num_nodes=2", "tensor_model_parallel_size=2")


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
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "dtype": "float32",
        "quantization": None,
        "max_model_len": None,
        "args": {"enable_prefix_caching": True, "mm_processor_cache_gb": 1, "max_num_seqs": 4},
    }
    assert inner.frames.num_frames == 4


def test_the_checkpoint_says_what_is_shown_and_data_keys_win() -> None:
    facts = ModelSettings.model_validate({"conv_template": "nvgpt", "num_frames": 4, "splice_single_frame": "last"})

    plain = shown_media(read("inference.media_type=video"), facts)
    changed = shown_media(read("inference.media_type=video", "+data.num_frames=6", "+data.image_token_len=256"), facts)
    image = shown_media(read(), facts)

    assert (plain.num_frames, plain.splice_single_frame, plain.conv_template) == (4, "last", "nvgpt")
    assert changed.num_frames == 6
    assert (image.media_type, image.frames_shown) == ("image", 1)
    with pytest.raises(ConfigurationError, match=r"data\.frames: unknown key"):
        shown_media(read("+data.frames=6"), facts)
    with pytest.raises(ConfigurationError, match=r"data: .*every frame"):
        shown_media(read("+data.num_frames=-1"), facts)


def quantised(algorithm: str, *, enable: bool = True) -> QuantizationSettings:
    return QuantizationSettings.model_validate({"algorithm": algorithm, "enable": enable})


def test_quantisation_that_vllm_can_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert vllm_quantization(quantised("awq", enable=False), "/a") is None
    monkeypatch.setattr(evaluate_model, "runs_on_cpu", lambda: False)
    assert vllm_quantization(quantised("fp8"), "/a") == "fp8"
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "awq"}}')
    assert vllm_quantization(quantised("awq"), str(tmp_path)) is None


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        ("fp8", "fp8 needs a GPU"),
        ("awq", "quantise it beforehand"),
        ("int8_sq", "quantise it beforehand"),
        ("int8", "none of NeVA's evaluation either"),
    ],
)
def test_quantisation_that_vllm_can_not_do_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str, message: str
) -> None:
    monkeypatch.setattr(evaluate_model, "runs_on_cpu", lambda: True)

    with pytest.raises(ConfigurationError, match=message):
        vllm_quantization(quantised(algorithm), str(tmp_path))
