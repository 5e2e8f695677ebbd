"""Families of one line each; most of them bring their own code, and transformers has no class for them."""

from importlib.util import find_spec
from typing import Any

from tests.families.family import Family
from tests.families.reference import image_answers

_OWN_CODE: dict[str, Any] = {
    "reference": None,
    "no_reference": "transformers has no such class",
    "args": {"trust-remote-code": True, "load-format": "dummy"},
}

FAMILIES = (
    Family(
        "SmolVLM2",
        "smolvlm2",
        "image",
        reference=image_answers,
        load_refuses="" if find_spec("num2words") else "Package `num2words` is required",
    ),
    Family(
        "Phi-4-multimodal",
        "phi4mm",
        "image",
        reference=None,
        no_reference="transformers has another class",
        started_by="tests/families/test_phi.py",
        max_frames=1,
        args={"trust-remote-code": True, "load-format": "dummy", "skip-mm-profiling": True},
    ),
    # vLLM's mixture of experts on the CPU has no float32
    Family("Kimi-VL", "kimi_vl", "image", dtype="bfloat16", **_OWN_CODE),
    Family("Nemotron Nano VL v2", "nemotron_vl", "video", dtype="bfloat16", **_OWN_CODE),  # fixed in vLLM's class
    Family("Molmo2", "molmo2", "video", **_OWN_CODE),
    Family("LLaVA-OneVision-2", "llava_onevision2", "video", **_OWN_CODE),
    Family("Video-LLaMA3", "video_llama3", "video", load_refuses="takes no window of several frames"),
)
