"""One grown model with untrained weights for the tests of what it begins with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neva
from neva.scenery.compose import draw_clip
from neva.scenery.model.growth import grow
from neva.scenery.photographs import draw_texture
from neva.scenery.training import SceneBatches, grown_sizes, old_model
from neva.shapes.dataset import load_or_make
from neva.shapes.model import make_model
from neva.shapes.tokenizer import make_image_processor, make_processor
from neva.training.config_file import read_training_settings
from neva.training.settings import ModelSettings
from tests.unit.neva.scenery.shapes_model import write_shapes_model
from tests.unit.neva.scenery.stored_clips import stored

CONFIG = Path(neva.__file__).parent.parent / "config" / "demo-scenes.yaml"
SEEDS = range(19_000_000, 19_000_012)


@dataclass(frozen=True)
class Grown:
    """The model of shapes, the grown one, its tokenizer, batches of clips, and the sizes of the finished model."""

    old: Any
    new: Any
    tokenizer: Any
    batches: SceneBatches
    sizes: ModelSettings


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Grown:
    """A grown model, and batches of drawn clips and of shapes."""
    folder = write_shapes_model(tmp_path_factory.mktemp("shapes") / "model")
    settings = read_training_settings(CONFIG, [f"model.restore_from_path={folder}"], "finetune")[0].model
    old = old_model(settings)
    processor = make_processor(old.tokenizer, make_image_processor(64), 16)
    torch.manual_seed(0)
    new = make_model(grown_sizes(settings), old.tokenizer)
    pictures = [draw_texture(np.random.default_rng(n)) for n in range(3)]
    scenes = stored([draw_clip(np.random.default_rng([9, n]), pictures) for n in range(12)])
    batches = SceneBatches(scenes, processor, 16, 1)
    batches.shapes = load_or_make(
        tmp_path_factory.mktemp("clips") / "shapes.npz", SEEDS, processor.image_processor, 8, 1
    )
    grow(old.model, new, batches.pixels(scenes.frames))
    return Grown(old.model.eval(), new.eval(), old.tokenizer, batches, settings)
