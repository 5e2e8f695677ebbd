"""The one place where the daemon is told of Video NeVA: its prompt templates and its bundled model.

Every program that serves this model family calls :func:`register` once at its start: the command line does, and so do
the functions that run an evaluation or a training as a whole.
"""

from functools import partial
from pathlib import Path

from daemon.engines.model.bundled import register_bundled_model
from daemon.prompts import templates
from neva.conversations import NOT_FOR_INFERENCE, TEMPLATES, render

BUNDLED_FOLDER = Path(__file__).parent / "bundled"


def register() -> None:
    """Register the conversations that a model can be asked in, and the bundled model; a second call changes nothing."""
    for name, template in TEMPLATES.items():
        if name not in NOT_FOR_INFERENCE:
            templates.register(name, templates.PromptTemplate(partial(render, name), template.stop))
    register_bundled_model(BUNDLED_FOLDER)
