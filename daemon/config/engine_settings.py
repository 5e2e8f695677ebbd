"""The settings of the engines: vLLM in this program's own children, OpenAI-compatible servers, and the fake."""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from connectors.section import Section


class VllmSettings(Section):
    """vLLM in this process's own children."""

    kind: Literal["vllm"] = "vllm"
    model: str | None = Field("bundled", description="a folder, a Hugging Face name, or bundled, a small one")
    tensor_parallel_size: PositiveInt = Field(1, description="devices that share each layer")
    pipeline_parallel_size: PositiveInt = Field(1, description="devices that share the stack of layers")
    data_parallel_size: PositiveInt = Field(1, description="replicas of the model, each on devices of its own")
    dtype: Literal["auto", "float32", "bfloat16", "float16", "half", "float"] = Field("auto", description="precision")
    quantization: str | None = Field(None, description="as vLLM names it")
    max_model_len: PositiveInt | Literal["auto"] | None = Field(
        None, description="longest prompt plus answer; the model's own if null; auto: as much of that as memory holds"
    )
    adapter: Path | None = Field(None, description="a folder with a LoRA adapter, as peft writes it, to answer with")
    renderers: Literal["auto"] | NonNegativeInt = Field(
        "auto", description="processes that make the model's tensors of frames; 0 is a thread of this one"
    )
    args: dict[str, Any] = Field(default_factory=dict, description="anything else that vLLM's AsyncEngineArgs takes")


class OpenAISettings(Section):
    """One or more OpenAI-compatible servers."""

    kind: Literal["openai"] = "openai"
    base_urls: tuple[str, ...] = Field(min_length=1, description="for example http://127.0.0.1:8000/v1")
    model: str = Field(description="the name that the servers know it by")
    api_key_file: Path | None = Field(None, description="a file that holds the key")
    slots: PositiveInt = Field(64, description="requests in flight at once, over all servers")
    media: Literal["auto", "video", "images"] = Field(
        "auto", description="windows as videos with times where a server takes them; video: never as images"
    )

    @field_validator("base_urls")
    @classmethod
    def _are_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            try:
                parts = urlsplit(url)
                is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            except ValueError:  # a port that is no number, brackets that do not close
                is_url = False
            if not is_url or not url.isprintable() or " " in url:
                raise ValueError(f"{url!r} is no URL of a server, for example http://127.0.0.1:8000/v1")
        return urls


class FakeSettings(Section):
    """No model: captions made from the frames, for tests of delivery and for trying out a configuration."""

    kind: Literal["fake"] = "fake"
    delay_ms: float = Field(0.0, ge=0, description="how long a caption takes")
    slots: PositiveInt = Field(64, description="requests in flight at once")
    script: Path | None = Field(None, description="a YAML file of faults, for tests")


EngineSettings = Annotated[VllmSettings | OpenAISettings | FakeSettings, Field(discriminator="kind")]
