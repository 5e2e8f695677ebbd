"""The placeholder of a model: what its class writes for a video or an image, found as its processor finds it.

vLLM's processor of a family says which tokens its frames replace: one, a sequence, another sequence for each image. It
is asked with a black frame, and the same rules count the placeholders of each prompt.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from connectors.errors import ConfigurationError
from daemon.engines.model.media_form import MediaForm
from daemon.engines.vllm import library
from daemon.engines.vllm.form import ELSE
from daemon.prompts.control_tokens import ControlTokens
from daemon.prompts.prompt import Modality, Placeholder

_REMEMBERED = 256  # prompts whose placeholders are counted already: many windows share one
_Targets = Callable[[int], list[list[int]]]  # the token sequences that stand for the n-th item, counted from 0


def placeholder_of(model_config: Any, processor: Any, form: MediaForm) -> Placeholder:
    """Return what stands for a video or an image of a model.

    Raises:
        ConfigurationError: its processor names nothing that a prompt could show.
    """
    rules = _rules(processor, form)
    if not library.is_found_by_tokens(rules[0]):
        return Placeholder(form.modality, lambda _: "", lambda _, items: items)
    rule = _Rule(processor, form.modality, rules, lambda number: _class_text(model_config, form.modality, number))
    return Placeholder(form.modality, rule.text_of(), rule.shown, respells=rule.is_sequence)


def _rules(processor: Any, form: MediaForm) -> list[list[Any]]:
    """Return what the processor would replace for each item: of one video, or of two images, which may differ."""
    media = form.sample(2)
    found = library.prompt_updates(processor, media, form.processor_arguments(media)).get(form.modality, [])
    if not found or not all(found):
        message = f"vLLM's processor for it says nothing of where a {form.modality} goes in a prompt; {ELSE}"
        raise ConfigurationError(message, path="engine.model")
    return found


def _class_text(model_config: Any, modality: Modality, number: int) -> str:
    try:
        return library.placeholder_text(model_config, modality, number) or ""
    except (ValueError, NotImplementedError):  # a class that names none
        return ""


class _Rule:
    """The rules by which a processor finds its items, and the text that they find.

    ``written(number)`` is what the model's class writes for an item, counted from 1.
    """

    def __init__(
        self, processor: Any, modality: Modality, rules: list[list[Any]], written: Callable[[int], str]
    ) -> None:
        self._processor, self._modality, self._rules, self._written = processor, modality, rules, written
        self._tokenizer = processor.info.get_tokenizer()
        self._numbered = len({_key(rule) for rule in rules}) > 1
        control = frozenset(ControlTokens.of(self._tokenizer).ids.values())
        targets = [list(rule.target) for rule in rules[0]]
        self._control = {token: targets[0].count(token) for token in targets[0] if token in control}
        self.is_sequence = any(len(target) > 1 for target in targets)
        self._counted = lru_cache(_REMEMBERED)(self._count)

    def text_of(self) -> Callable[[int], str]:
        """Return what writes the placeholder of the n-th item: the class, or the names of the tokens that are replaced.

        A checkpoint may give the class's token another name in its vocabulary; then the name in the vocabulary counts.
        """
        if self._is_found(self._written):
            return self._written
        decoded = self._tokenizer.decode(list(self._rules[0][0].target))
        if not self._numbered and self._is_found(lambda _: decoded):
            return lambda _: decoded
        message = f"its processor does not find the {self._written(1)!r} that stands for its {self._modality}; {ELSE}"
        raise ConfigurationError(message, path="engine.model")

    def _is_found(self, text_of: Callable[[int], str]) -> bool:
        items = len(self._rules)
        text = "\n".join(text_of(number) for number in range(1, items + 1))
        return self.shown(self._tokenizer.encode(text, add_special_tokens=False), items) == items

    def shown(self, ids: list[int], items: int) -> int:
        """Return how many items a prompt shows."""
        return self._counted(tuple(ids), items)

    def _count(self, prompt: tuple[int, ...], items: int) -> int:
        """Count by the rules for one item more than are expected.

        Of control tokens that only a placeholder holds none may be left over: the model would take them for its own.
        """
        ids = list(prompt)
        rules = [self._of(index) for index in range(items + 1)]
        found = library.items_found(self._processor, self._modality, rules, ids, as_text=False)
        if found != items or self.is_sequence:  # what stands around a sequence may change its tokens
            found = max(found, library.items_found(self._processor, self._modality, rules, ids, as_text=True))
        if self._numbered:
            return found
        return max([found, *(-(-ids.count(token) // count) for token, count in self._control.items())])

    def _of(self, index: int) -> list[Any]:
        """Return the rules for an item, where the processor was not asked about so many those of its number."""
        if index < len(self._rules):
            return self._rules[index]
        first = self._rules[0]
        if not self._numbered:
            return first
        target = self._tokenizer.encode(self._written(index + 1), add_special_tokens=False)
        return [rule.with_target(target) for rule in first]


def _key(rules: Sequence[Any]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(rule.target) for rule in rules)
