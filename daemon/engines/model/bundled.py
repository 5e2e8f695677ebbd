"""The model that ships with captiond: ``engine.model: bundled``.

The model family that brings it registers its folder when the program starts, so the daemon knows no family by name.
"""

from pathlib import Path

from connectors.errors import ConfigurationError

BUNDLED = "bundled"

_folders: dict[str, Path] = {}


def register_bundled_model(folder: Path) -> None:
    """Let ``engine.model: bundled`` mean the model in ``folder``; a later call replaces an earlier one."""
    _folders[BUNDLED] = folder


def bundled_model() -> Path:
    """Return the folder of the bundled model, which knows only moving shapes.

    Raises:
        ConfigurationError: the program has none, or its folder holds no model.
    """
    folder = _folders.get(BUNDLED)
    if folder is None or not (folder / "config.json").is_file():
        raise ConfigurationError("the bundled model is not here: `make model` makes it", path="engine.model")
    return folder
