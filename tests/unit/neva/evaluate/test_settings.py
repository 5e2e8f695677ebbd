"""NeVA's keys, defaults and command lines; what is ignored is said, what is not there is refused."""

from pathlib import Path

import pytest

from connectors.errors import ConfigurationError
from neva.evaluate.settings import EvaluateSettings, read_evaluate_settings
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
