"""Registration: a program that starts as the command line does has NeVA's templates and the bundled model."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import neva
from connectors.errors import ConfigurationError
from daemon.engines.model import bundled
from daemon.prompts import templates
from neva import registration
from testing.repository import ROOT


@pytest.fixture
def nothing_registered() -> Iterator[None]:
    """Start as a program does in which nobody has called ``register``, and register again at the end."""
    templates._registered.clear()
    bundled._folders.clear()
    yield
    registration.register()


@pytest.mark.parametrize("name", ["v1", "llama_2", "llama_3", "mistral", "nvgpt", "nv_dpo", "yi_34b"])
def test_nevas_conversations_are_in_the_table(name: str) -> None:
    text = templates.templates()[name].render("What happens?", None)

    assert text.count("<video>") == 1
    assert "What happens?" in text


def test_conversations_of_training_are_not_in_the_table() -> None:
    assert not {"plain", "interleaved"} & templates.templates().keys()


@pytest.mark.usefixtures("nothing_registered")
def test_a_second_registration_changes_nothing() -> None:
    registration.register()
    first = dict(templates.templates())

    registration.register()

    assert templates.templates().keys() == first.keys()
    assert {name: one.stop for name, one in templates.templates().items()} == {n: t.stop for n, t in first.items()}
    assert bundled.bundled_model() == Path(neva.__file__).parent / "bundled"


@pytest.mark.usefixtures("nothing_registered")
def test_a_program_without_a_model_family_has_no_bundled_model() -> None:
    assert not templates.templates()
    with pytest.raises(ConfigurationError, match=r"engine\.model: the bundled model is not here: `make model` makes"):
        bundled.bundled_model()


@pytest.mark.parametrize("starts", ["import daemon.__main__", "from neva import registration; registration.register()"])
def test_a_program_is_told_of_the_family_at_its_start(starts: str) -> None:
    probe = (
        f"{starts}\nfrom daemon.engines.model.bundled import bundled_model\nfrom daemon.prompts.templates import "
        "templates\nprint(bundled_model().name, *sorted(templates()))"
    )

    said = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT).stdout

    assert said.split() == ["bundled", *sorted(templates.templates())]
