"""What model libraries raise, in sentences that may leave the machine: one line, no paths, no stack traces."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from connectors.errors import ConfigurationError

_PATH = re.compile(r"(?<![\w.])/[\w.@~+-]+(?:/[\w.@~+-]+)+")
_LONGEST = 500  # characters; some libraries put whole configurations into their messages


def sentence(error: BaseException) -> str:
    """Return an error's own words, on one line and without paths of the machine."""
    text = " ".join(_PATH.sub("...", str(error)).split())
    return text[:_LONGEST] or type(error).__name__


@contextmanager
def as_configuration_error(path: str) -> Iterator[None]:
    """Translate what libraries raise for settings and files that do not fit; ``path`` is the key's."""
    try:
        yield
    except ConfigurationError:
        raise
    except (ValueError, TypeError, OSError, KeyError, AttributeError, ImportError) as error:
        raise ConfigurationError(sentence(error), path=path) from error
