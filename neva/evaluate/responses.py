"""What a model's answer is once the conversation around it is taken away.

The rules say where the answer begins (behind the last mark of its template) and which literal strings may end it
(NeMo v2.0.0, ``megatron_neva_generate``). An end is removed as a whole string: never letter by letter, so an answer
that ends in letters of a stop string keeps them.
"""

import re
from dataclasses import dataclass

from neva.conversations import EOS_ALIAS, SEPARATOR


@dataclass(frozen=True, slots=True)
class CleanRule:
    """``begin`` is a pattern behind whose last match the answer starts; ``ends`` are the strings that may end it."""

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
    """Return the answer in generated text: strings that end it and white space around it are taken away.

    ``ends`` are further strings that may end it. A template without a rule (``auto``) has none of its own.
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
        ValueError: the text shows no place where an answer begins.
    """
    body = clean_answer(template, full_text, ends)  # first, so that a turn's separator at the end is not a beginning
    places = list(re.finditer(RULES[template].begin, body + "\n\n"))
    if not places:
        raise ValueError(f"the text shows no answer of template {template!r}")
    return clean_answer(template, body[places[-1].end() :], ends)
