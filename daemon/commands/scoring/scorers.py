"""CIDEr, BLEU-4 and ROUGE-L of captions, by the scorers of COCO's caption evaluation.

Texts are split into words in lower case without punctuation; COCO's own tokenizer, which needs Java, is not used, so
scores differ a little from published ones.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from connectors.errors import ConfigurationError

_WORDS = re.compile(r"[\w']+")
_NOTHING = "\N{EMPTY SET}"  # stands for a caption without a word, which no reference holds
_BLEU_WORDS = 4

Pair = tuple[str, Sequence[str]]
"""A caption, and what it is scored against."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one caption, or of many."""

    cider: float
    bleu_4: float
    rouge_l: float


def score(pairs: Sequence[Pair]) -> tuple[Scores, list[Scores]]:
    """Return the scores of all captions together, and of each. How rare words are is counted over all references."""
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError as error:
        raise ConfigurationError(
            "it needs pycocoevalcap: pip install 'captiond[score]'", path="captiond score"
        ) from error

    texts = {at: [_split(text)] for at, (text, _) in enumerate(pairs)}
    references = {at: [_split(one) for one in against] for at, (_, against) in enumerate(pairs)}
    cider, each_cider = Cider().compute_score(references, texts)
    bleu, each_bleu = Bleu(_BLEU_WORDS).compute_score(references, texts, verbose=0)
    rouge, each_rouge = Rouge().compute_score(references, texts)
    columns: tuple[Any, ...] = (each_cider, each_bleu[-1], each_rouge)
    each = [Scores(*map(float, row)) for row in zip(*columns, strict=True)]
    return Scores(float(cider), float(bleu[-1]), float(rouge)), each


def _split(text: str) -> str:
    return " ".join(_WORDS.findall(text.lower())) or _NOTHING
