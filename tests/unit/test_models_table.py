"""The table of models names every family of the registry, and every family has a builder of its tiny model."""

from testing import tiny_models
from tests.families.registry import FAMILIES
from tests.families.table import DOCUMENT, families_in


def test_the_table_names_every_family() -> None:
    assert families_in(DOCUMENT.read_text()) == [family.name for family in FAMILIES], "make families writes the table"


def test_every_family_has_a_tiny_model() -> None:
    assert {family.model for family in FAMILIES if family.model != "bundled"} <= set(tiny_models.BUILDERS)
