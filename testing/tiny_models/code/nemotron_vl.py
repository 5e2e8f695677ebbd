"""The configuration in the folder of a Nemotron Nano VL v2; vLLM brings the processor."""

from transformers import NemotronHConfig, PretrainedConfig


class NemotronHNanoVLVisionConfig(PretrainedConfig):
    model_type = "radio_of_nemotron"


class NemotronHNanoVLConfig(PretrainedConfig):
    model_type = "NemotronH_Nano_VL_V2"
    sub_configs = {"vision_config": NemotronHNanoVLVisionConfig, "llm_config": NemotronHConfig}  # noqa: RUF012

    def __init__(self, vision_config=None, llm_config=None, **kwargs):
        self.vision_config = NemotronHNanoVLVisionConfig(**(vision_config or {}))
        self.llm_config = NemotronHConfig(**(llm_config or {}))
        super().__init__(**kwargs)
