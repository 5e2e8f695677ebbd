"""Families with a tower, a projector and somebody else's language model."""

from tests.families.family import Family

FAMILIES = (
    Family("LLaVA", "llava", "image", in_ci=True),
    Family("LLaVA-OneVision", "llava_onevision", "video", in_ci=True),
)
