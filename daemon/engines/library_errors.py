"""The errors of model libraries, in sentences that may leave the machine: one line, no paths, no stack traces."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from connectors.errors import ConfigurationError

_PATH = re.compile(r"(?<![\w.])/[\w.@~+-]+(?:/[\w.@~+-]+)+")
_LONGEST = 300  # characters; some libraries put whole inputs into their messages, and the fault into the cause


def one_line(message: str) -> str:
    """Return a library's words on one line and without paths, as long as a sentence may be."""
    return _cleaned(message)[:_LONGEST]


def _cleaned(message: str) -> str:
    return " ".join(_PATH.sub("...", message).split())


def sentence(error: BaseException) -> str:
    """Return an error's own words, or those of its cause where they are shorter, on one line and without paths."""
    text = _cleaned(str(error))
    if len(text) > _LONGEST and error.__cause__ is not None:
        return sentence(error.__cause__)
    return text[:_LONGEST] or type(error).__name__


@contextmanager
def as_configuration_error(path: str) -> Iterator[None]:
    """Translate what libraries raise for settings and files that do not fit; ``path`` is the key's."""
    try:
        yield
    except ConfigurationError:
        raise
    except (ValueError, TypeError, OSError, KeyError, AttributeError, ImportError, NotImplementedError) as error:
        raise ConfigurationError(sentence(error), path=path) from error
