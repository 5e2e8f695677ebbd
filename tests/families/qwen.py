"""The Qwen-VL line."""

from tests.families.family import Family

FAMILIES = (
    Family("Qwen2.5-VL, Cosmos-Reason1", "qwen2_5_vl", "video", in_ci=True),
    Family("Qwen3-VL, Cosmos-Reason2", "qwen3_vl", "video", in_ci=True),
)
