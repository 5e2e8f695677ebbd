"""The MiniCPM-V line."""

from tests.families.family import Family

FAMILIES = (
    Family(
        "MiniCPM-V 2.6, 4.0, 4.5",
        "minicpmv_4_5",
        "video",
        reference=None,
        no_reference="transformers has no such class",
        args={"trust-remote-code": True},
    ),
    Family("MiniCPM-V 4.6", "minicpmv_4_6", "video"),
)
