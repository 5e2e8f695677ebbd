"""The model of an evaluation: its facts, and the quantisation that vLLM can serve it with."""

from pathlib import Path

import pytest

from connectors.errors import ConfigurationError
from neva.evaluate import model as evaluate_model
from neva.evaluate.model import shown_media, vllm_quantization
from neva.evaluate.settings import EvaluateSettings, QuantizationSettings, read_evaluate_settings
from neva.media_settings import ModelSettings

ONE_DEVICE = ["tensor_model_parallel_size=1", "trainer.devices=1"]


def read(*overrides: str) -> EvaluateSettings:
    return read_evaluate_settings(None, None, [*ONE_DEVICE, *overrides])[0]


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
