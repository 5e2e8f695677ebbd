"""captiond's Video NeVA against a checkout of NeMo, where ``NEMO_DIR`` names one."""

import os
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sentencepiece")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif("NEMO_DIR" not in os.environ, reason="NEMO_DIR names no checkout of NeMo")
def test_nothing_differs_but_nemos_own_faults() -> None:
    from tests.neva.against_nemo import compare, table

    rows = compare(Path(os.environ["NEMO_DIR"]), count=200)

    assert not any(row.different for row in rows.values()), table(rows)
    assert len(rows) > 20
