"""All families of the table, group by group."""

from tests.families import common, google, internvl, minicpm, others, qwen
from tests.families.family import Family

FAMILIES: tuple[Family, ...] = (
    *qwen.FAMILIES,
    *internvl.FAMILIES,
    *minicpm.FAMILIES,
    *google.FAMILIES,
    *others.FAMILIES,
    *common.FAMILIES,
)
BY_MODEL = {one.model: one for one in FAMILIES}
