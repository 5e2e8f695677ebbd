"""One set of parts for all tests of this folder."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.neva.checkpoints.nemo_parts import Parts


@pytest.fixture(scope="package")
def parts(tmp_path_factory: pytest.TempPathFactory) -> "Parts":
    from tests.unit.neva.checkpoints.nemo_parts import Parts  # torch, which the tests skip without

    return Parts(tmp_path_factory.mktemp("parts"))
