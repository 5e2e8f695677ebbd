"""Names of uploads that are not finished: what the tools that people bring files with call them until they are."""

import re
from collections.abc import Container, Iterable
from fnmatch import translate
from functools import lru_cache

from connectors.folder.patterns import expand_braces

_BESIDE = ("*.aria2", "*.lftp-pget-status", "*.st")  # files that say that the one beside them still grows
_SPECIAL = frozenset("*?[\\{")


class UnfinishedNames:
    """A list of such names as patterns, upper and lower case alike. Names that begin with a dot are always on it."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(one.casefold() for pattern in patterns for one in expand_braces(pattern))
        self._fits = re.compile("|".join(map(translate, self._patterns)) or "(?!)")
        self._suffixes = tuple(one[1:] for one in self._patterns if one[0] == "*" and _is_plain(one[1:]))
        self._prefixes = tuple(one[:-1] for one in self._patterns if one[-1] == "*" and _is_plain(one[:-1]))
        self._controls = tuple(one[1:] for one in self._patterns if one in _BESIDE)

    def fit(self, name: str) -> bool:
        """Whether a file or folder of this name is not finished."""
        return name.startswith(".") or self._fits.match(name.casefold()) is not None

    def of(self, names: Iterable[str]) -> frozenset[str]:
        """Return those of a folder's names that say something of a file beside them, casefolded."""
        return frozenset(name.casefold() for name in names if self.fit(name))

    def fit_all(self, component: str) -> bool:
        """Whether every name that fits a pattern's component is one of an unfinished upload, as far as can be told."""
        folded = component.casefold()
        return folded.startswith((".", *self._prefixes)) or folded.endswith(self._suffixes)

    def beside(self, name: str, size_bytes: int, names: Container[str]) -> str | None:
        """Return what lies beside a file and says that it is not finished; ``names`` are its folder's, by :meth:`of`.

        Such is the file in which a downloader keeps how far it is. Beside an empty file it is any unfinished one of its
        name: browsers reserve the name of what they download so.
        """
        folded = name.casefold()
        suffixes = self._controls if size_bytes else self._suffixes
        return next((name + suffix for suffix in suffixes if folded + suffix in names), None)


@lru_cache(maxsize=64)
def unfinished_names(patterns: tuple[str, ...]) -> UnfinishedNames:
    """Return the names that patterns mean; :class:`ValueError` where one of them can't be meant."""
    for pattern in patterns:
        if not pattern or "/" in pattern:
            raise ValueError(f"{pattern!r} is no pattern of a name: it has one component, without a slash")
    names = UnfinishedNames(patterns)
    if names.fit("clip.mp4") and names.fit("0") and names.fit("x y.jpeg"):
        raise ValueError("every name fits: nothing would ever be taken")
    return names


def _is_plain(text: str) -> bool:
    return text != "" and not _SPECIAL.intersection(text)
