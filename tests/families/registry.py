"""All families of the table, group by group."""

from tests.families import common, qwen
from tests.families.family import Family

FAMILIES: tuple[Family, ...] = (*qwen.FAMILIES, *common.FAMILIES)
