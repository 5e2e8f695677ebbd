"""The Qwen-VL line, and GLM-V, which took its way of merging frames."""

from tests.families.family import Family
from tests.families.reference import whole_second_answers

FAMILIES = (
    Family("Qwen2.5-VL, Cosmos-Reason1", "qwen2_5_vl", "video", in_ci=True),
    Family(
        "Qwen3-VL, Cosmos-Reason2",
        "qwen3_vl",
        "video",
        in_ci=True,
        started_by="tests/contract/test_vllm_served.py",
    ),
    Family("Qwen3.5, Qwen3.6", "qwen3_5", "video", cpu_refuses="CPU GDN attention requires BF16"),
    Family("GLM-4.1V, GLM-4.5V", "glm4_1v", "video", in_ci=True),
    Family("GLM-4.6V", "glm4_6v", "video", reference=whole_second_answers),
    Family(
        "Keye-VL 1.5",
        "keye_vl1_5",
        "video",
        reference=None,
        no_reference="transformers has no such class",
        args={"trust-remote-code": True, "load-format": "dummy"},
    ),
)
