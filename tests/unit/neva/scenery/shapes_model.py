"""A model of shapes that knows nothing, in the sizes of the one that the training of scenes begins with."""

from pathlib import Path

import torch

from neva.shapes.export import export_model
from neva.shapes.model import make_model
from neva.shapes.prompts import tokenizer_texts
from neva.shapes.tokenizer import make_image_processor, make_processor, train_tokenizer
from neva.training.config_file import read_training_settings
from testing.repository import ROOT


def write_shapes_model(folder: Path) -> Path:
    settings = read_training_settings(ROOT / "config" / "demo-model.yaml", [], "pretrain")[0].model
    tokenizer = train_tokenizer(tokenizer_texts(), settings.vocab_size)
    torch.manual_seed(3)
    llava = make_model(settings, tokenizer)
    with torch.no_grad():  # as large as learned weights are, so that every layer counts
        for weight in llava.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.08)
    export_model(folder, llava, make_processor(tokenizer, make_image_processor(64), 16))
    return folder
