"""A training run as a whole is refused before anything is loaded where there is nothing to learn from."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

from connectors.errors import ConfigurationError
from neva.training.config_file import read_training_settings
from neva.training.settings import Stage


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_something_to_learn_from_is_needed(tmp_path: Path, stage: Stage) -> None:
    from neva.train import train

    (tmp_path / "neva.yaml").write_text("")
    settings, _ = read_training_settings(tmp_path / "neva.yaml", [], stage)

    with pytest.raises(ConfigurationError, match=r"model\.data\.data_path: the conversations to learn from"):
        train(settings, stage)

    assert [path.name for path in tmp_path.iterdir()] == ["neva.yaml"]
