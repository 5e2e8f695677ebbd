"""Families with a tower, a projector and somebody else's language model."""

from tests.families.family import Family

FAMILIES = (
    Family("bundled (a LLaVA)", "bundled", "image", in_ci=True, started_by="tests/contract/test_vllm_bundled.py"),
    Family("LLaVA", "llava", "image", in_ci=True, started_by="tests/contract/test_vllm_llava.py"),
    Family(
        "LLaVA-OneVision",
        "llava_onevision",
        "video",
        in_ci=True,
        batch_fault="vLLM's engine ends when videos of different counts of frames meet in a batch",
    ),
    Family("LLaVA-NeXT-Video", "llava_next_video", "video"),
)
