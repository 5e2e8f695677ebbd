"""The families that captiond can't serve: each is refused when its processor is read, in a sentence that says why."""

from pathlib import Path

import pytest

from connectors.errors import ConfigurationError
from daemon.engines.vllm.load import load_model
from testing import tiny_models
from tests.contract.vllm_engines import MARKS, settings
from tests.families.family import Family
from tests.families.registry import FAMILIES

pytestmark = [*(mark for mark in MARKS if mark.name != "asyncio"), pytest.mark.thorough]


@pytest.mark.parametrize("family", [one for one in FAMILIES if one.load_refuses], ids=lambda one: one.model)
def test_a_family_that_cant_be_served_is_refused_at_load(family: Family, tmp_path: Path) -> None:
    folder = tiny_models.build(family.model, tmp_path)

    with pytest.raises(ConfigurationError, match=family.load_refuses) as refusal:
        load_model(settings(folder, args=dict(family.args)), family.max_frames)

    assert str(refusal.value).startswith("engine")
