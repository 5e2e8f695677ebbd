"""Google's families."""

from tests.families.family import Family

FAMILIES = (
    Family("Gemma 3", "gemma3", "image"),
    Family("Gemma 4", "gemma4", "video"),
)
