"""NeVA's settings files: the file that its command-line options name, and the error for a key that is wrong."""

from pathlib import Path

from pydantic import ValidationError

from connectors.errors import ConfigurationError
from connectors.validation import first_fault


def config_file(folder: Path, name: str) -> Path:
    """Return the file that ``--config-path`` and ``--config-name`` name; the suffix may be left out, as in NeVA."""
    path = folder / name
    return path if path.suffix in (".yaml", ".yml") else path.with_name(f"{path.name}.yaml")


def configuration_error(
    error: ValidationError, *, unknown_key: str = "unknown key", section: str | None = None
) -> ConfigurationError:
    """Return the first complaint of pydantic as an error that names the key.

    ``unknown_key`` is the text for a key that no settings class has. ``section`` is the key that the settings stand
    under, where they are not a whole file.
    """
    fault = first_fault(error)
    path = fault.path(section) if section else fault.path()
    return ConfigurationError(fault.sentence(unknown_key), path=path)
