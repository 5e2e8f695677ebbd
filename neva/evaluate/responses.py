"""Extraction of the answer from the text that a model generated.

A rule for each template tells where the answer begins, behind the last of the strings that open one, and which strings
may end it (NeMo v2.0.0, ``megatron_neva_generate``). Only whole strings are removed from the end, so an answer that
ends in some letters of such a string keeps them.
"""

import re
from dataclasses import dataclass

from neva.conversations import EOS_ALIAS, SEPARATOR


@dataclass(frozen=True, slots=True)
class CleanRule:
    """The limits of an answer in the text of one template.

    The answer starts behind the last match of the pattern ``begin``; ``ends`` are the strings that may end it.
    """

    begin: str
    ends: tuple[str, ...] = ()


_EOS = (EOS_ALIAS, "</s>")
_STEERLM = CleanRule(
    r"<extra_id_1>Assistant\n(?:<extra_id_2>[^\n]*\n)?|<extra_id_2>quality:[^\n]*\n", (SEPARATOR, EOS_ALIAS)
)
_VICUNA = CleanRule(r"ASSISTANT:", _EOS)
RULES = {
    "nvgpt": _STEERLM,
    "nv_steerlm": _STEERLM,
    "nv_dpo": CleanRule(r"<extra_id_1>Assistant\n", (SEPARATOR, EOS_ALIAS)),
    "llama_2": CleanRule(r"\[/INST\]", _EOS),
    "mistral": CleanRule(r"\[/INST\]", _EOS),
    "v1": _VICUNA,
    "vicuna_v1": _VICUNA,
    "llava_v1": _VICUNA,
    "llama_3": CleanRule(r"assistant<\|end_header_id\|>\n\n", ("<|eot_id|>",)),
    "yi_34b": CleanRule(r"<\|im_start\|>assistant\n", ("<|im_end|>",)),
}


def clean_answer(template: str, text: str, ends: tuple[str, ...] = ()) -> str:
    """Return the answer in generated text, without the strings that end it and the white space around it.

    ``ends`` are further strings that may end it. A template without a rule (``auto``) has no such strings of its own.
    """
    rule = RULES.get(template, CleanRule(""))
    known = [end for end in (*rule.ends, *ends) if end]
    text = text.strip()
    while (end := next((end for end in known if text.endswith(end)), None)) is not None:
        text = text.removesuffix(end).rstrip()
    return text


def clean_response(template: str, full_text: str, ends: tuple[str, ...] = ()) -> str:
    """Return the last answer in the text of a whole conversation, decoded with its special tokens.

    Raises:
        KeyError: the template has no rule.
        ValueError: no answer begins in the text.
    """
    body = clean_answer(template, full_text, ends)  # first: a separator at the end is no beginning
    places = list(re.finditer(RULES[template].begin, body + "\n\n"))
    if not places:
        raise ValueError(f"the text shows no answer of template {template!r}")
    return clean_answer(template, body[places[-1].end() :], ends)
