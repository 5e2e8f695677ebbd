"""The prompt of a request, and its way into a model's own template and tokens."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from connectors.errors import Poison, Reason
from daemon.prompts.answer_form import AnswerForm
from daemon.prompts.chat_template import ChatTemplate as ChatTemplate
from daemon.prompts.control_tokens import ControlTokens
from daemon.prompts.later_settings import UNHASHED as _UNHASHED
from daemon.prompts.reasoning import Marks, Reasoning
from daemon.prompts.templates import AUTO, MEDIA_TOKEN, PromptTemplate, templates

Modality = Literal["video", "image"]

_HARMLESS = "x"  # a text that no template and no tokenizer makes more of


@dataclass(frozen=True)
class Prompt:
    """The question, how it is wrapped, and how the answer is generated.

    ``template`` is ``auto`` (the model's own chat template) or the name of a registered template. Sampling
    settings mean what :class:`daemon.config.settings.GenerationSettings` says. With ``logprobs`` the answer's tokens
    come with their log-probabilities, and with those of so many of the likeliest tokens at each step (0 to 20).

    With ``from_sender`` the text came with a clip: it is data, and no control token comes out of it.

    ``chat_template`` is the text of one that is taken instead of the model's own, and ``template_args`` are the
    arguments of either. ``from_model`` names the sampling settings that are left to the model's own file.

    ``name`` is the question's where there are several, ``form`` the answer's. ``places`` are the words in braces that
    :mod:`daemon.prompts.places` fills, in ``text`` and ``system``; filled, each is taken apart in ``words`` and
    ``system_words``: the operator's own and data in turns. Of ``context_windows`` windows before this one the model is
    told. An answer that is not good is asked for again up to ``retries`` times: ``stop_loops`` and ``refusals`` say
    what good is, beside the form.
    """

    text: str
    template: str = AUTO
    system: str | None = None
    max_tokens: int = 256
    min_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: int | None = None
    from_sender: bool = False
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    ignore_eos: bool = False
    chat_template: str | None = None
    template_args: Mapping[str, Any] = field(default_factory=dict, hash=False)
    reasoning: Reasoning = "off"
    from_model: tuple[str, ...] = ()
    name: str | None = None
    form: AnswerForm | None = None
    places: tuple[str, ...] = ()
    context_windows: int = 0
    retries: int = 0
    stop_loops: bool = False
    refusals: tuple[str, ...] = ()
    words: tuple[str, ...] = field(default=(), repr=False)
    system_words: tuple[str, ...] = field(default=(), repr=False)

    @cached_property
    def hash(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 over what is asked and how: messages call it ``prompt_hash``."""
        asked = asdict(self)
        for name in _HOW_IT_CAME:
            del asked[name]
        for name, usual in _UNHASHED.items():
            if asked[name] == usual:
                del asked[name]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def holds_data(self) -> bool:
        """Whether anything of it came from somebody else than the operator."""
        return self.from_sender or bool(self.words or self.system_words)

    def treated(self, treat: Callable[[str], str]) -> "Prompt":
        """Return the prompt with whatever of it is data treated."""
        if self.from_sender:
            return replace(self, text=treat(self.text))
        if not self.holds_data:
            return self
        text = _joined(self.words, treat) if self.words else self.text
        system = _joined(self.system_words, treat) if self.system_words else self.system
        return replace(self, text=text, system=system, words=(), system_words=())

    @cached_property
    def wording(self) -> str:
        """Name everything that decides the prompt's text."""
        asked = asdict(self)
        return json.dumps([asked[name] for name in _WORDING], sort_keys=True)


# the same question is the same, whoever asks it
_HOW_IT_CAME = ("from_sender", "words", "system_words")
_WORDING = (
    "words",
    "system_words",
    "text",
    "template",
    "system",
    "from_sender",
    "chat_template",
    "template_args",
    "reasoning",
)


def _joined(words: Sequence[str], treat: Callable[[str], str]) -> str:
    """Return text that is the operator's and data in turns as one, the data treated."""
    return "".join(treat(part) if at % 2 else part for at, part in enumerate(words))


@dataclass(frozen=True, slots=True)
class Stop:
    """The ends of an answer: strings in its text, and tokens that its text does not show."""

    texts: tuple[str, ...] = ()
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Placeholder:
    """The text that stands for one video or image in a model's prompt, and how it is found among the prompt's tokens.

    Attributes:
        modality: What it stands for.
        text_of: Returns the text for the n-th video or image, counted from 1: some models number theirs.
        shown: Returns how many are found in a prompt's tokens, as the model's own processor finds them; told how many
            are expected, it looks for more.
        respells: Whether the processor may write the prompt out as text and read it again, to find them.
    """

    modality: Modality
    text_of: Callable[[int], str]
    shown: Callable[[list[int], int], int]
    respells: bool = False

    @classmethod
    def of_token(cls, modality: Modality, text: str, token_id: int) -> "Placeholder":
        """Return one that is a single token, the same for each video or image."""
        return cls(modality, lambda _: text, lambda ids, _: ids.count(token_id))

    def texts(self, items: int) -> list[str]:
        """Return the texts of so many videos or images, in order."""
        return [self.text_of(number) for number in range(1, items + 1)]


class PromptEncoder:
    """Turns prompts into one model's token ids, with a placeholder where each video or image goes.

    ``tokenizer`` is a Hugging Face tokenizer, ``chat_template`` the model's own, and ``read`` makes one of the text of
    a file. Every :class:`Poison` carries reason ``prompt``.
    """

    def __init__(
        self,
        tokenizer: Any,
        placeholder: Placeholder,
        chat_template: ChatTemplate | None,
        table: Mapping[str, PromptTemplate] | None = None,
        read: Callable[[str], ChatTemplate | None] = lambda source: ChatTemplate(source, parts=True),
    ) -> None:
        self.tokenizer, self.placeholder, self._chat_template = tokenizer, placeholder, chat_template
        self._table, self._read = table, read
        self._from_files: dict[str, ChatTemplate | None] = {}

    def encode(self, prompt: Prompt, items: int) -> list[int]:
        """Return the token ids of a prompt about ``items`` videos or images, before the model's processor widens them.

        Raises:
            Poison: the prompt does not fit the template, or shows another number of placeholders than ``items``; a
                sender's text that would give control tokens all the same.
        """
        asked, prompt = prompt, self._as_data(prompt, items)
        ids = self._encode(prompt, items)
        if asked.holds_data and not self._keeps_control_tokens(asked, ids, items):
            raise _poison("the prompt that came with the clip would give control tokens")
        shown = self.placeholder.shown(ids, items)
        if shown != items:
            raise _poison(
                f"the prompt shows {shown} placeholders for {items} {self.placeholder.modality} inputs; "
                f"it must not hold the model's own {self.placeholder.text_of(1)}"
            )
        return ids

    def _as_data(self, prompt: Prompt, items: int) -> Prompt:
        """Return the prompt with a sender's text broken where it would give control tokens."""
        if not prompt.holds_data:
            return prompt
        also = sorted({MEDIA_TOKEN, *self.placeholder.texts(items)})
        return prompt.treated(lambda text: self._control.broken(text, also=also))

    def _keeps_control_tokens(self, prompt: Prompt, ids: list[int], items: int) -> bool:
        """Whether a sender's prompt gives the control tokens of a harmless one, however the processor reads it."""
        expected = self._control.in_(self._encode(prompt.treated(lambda _: _HARMLESS), items))
        readings = [ids]
        if self.placeholder.respells:
            readings.append(self.tokenizer.encode(self.tokenizer.decode(ids), add_special_tokens=False))
        return all(self._control.in_(reading) == expected for reading in readings)

    def _encode(self, prompt: Prompt, items: int) -> list[int]:
        ids: list[int] = self.tokenizer.encode(self.render(prompt, items), add_special_tokens=False)
        return ids

    @cached_property
    def _control(self) -> ControlTokens:
        return ControlTokens.of(self.tokenizer)

    def render(self, prompt: Prompt, items: int) -> str:
        """Return the whole prompt as text, with ``items`` placeholders."""
        if prompt.template == AUTO:
            return self._render_chat(prompt, items)
        text = self._template(prompt.template).render(prompt.text, prompt.system)
        if text.count(MEDIA_TOKEN) != 1:
            raise _poison(f"the prompt shows {MEDIA_TOKEN} {text.count(MEDIA_TOKEN)} times; once is needed")
        return text.replace(MEDIA_TOKEN, "".join(self.placeholder.texts(items)))

    def leaves_open(self, prompt: Prompt, marks: Marks) -> bool:
        """Whether the prompt ends inside the model's reasoning, by what the template writes behind the question."""
        asked = self._as_data(prompt, 1)
        return marks.left_open_in(self.render(asked, 1).rpartition(asked.text)[2])

    def chat_template(self, prompt: Prompt) -> ChatTemplate | None:
        """Return the chat template that a prompt goes through; None for a conversation, and for a model without one."""
        if prompt.template != AUTO:
            return None
        if prompt.chat_template is None:
            return self._chat_template
        if prompt.chat_template not in self._from_files:
            self._from_files[prompt.chat_template] = self._read(prompt.chat_template)
        return self._from_files[prompt.chat_template]

    def stop(self, prompt: Prompt) -> Stop:
        """Return what ends the answer: the prompt's own strings and its template's.

        One that is a special token of the model is known by its id, for special tokens are not in the text.
        """
        own = () if prompt.template == AUTO else self._template(prompt.template).stop
        wanted, special = dict.fromkeys((*prompt.stop, *own)), self.tokenizer.get_added_vocab()
        return Stop(
            tuple(text for text in wanted if text not in special),
            tuple(special[text] for text in wanted if text in special),
        )

    def _template(self, name: str) -> PromptTemplate:
        table = templates() if self._table is None else self._table
        if name not in table:
            raise _poison(f"there is no template {name!r}; there are {', '.join([AUTO, *sorted(table)])}")
        return table[name]

    def _render_chat(self, prompt: Prompt, items: int) -> str:
        template = self.chat_template(prompt)
        if template is None:
            raise _poison("the model has no chat template: prompt.template names a conversation or a file")
        system = []
        if prompt.system is not None:
            system = [{"role": "system", "content": self._content(template, prompt.system, 0)}]
        messages = [*system, {"role": "user", "content": self._content(template, prompt.text, items)}]
        arguments = template.arguments(prompt.template_args, think=prompt.reasoning != "off")
        try:
            rendered: str = self.tokenizer.apply_chat_template(
                messages, chat_template=template.source, tokenize=False, add_generation_prompt=True, **arguments
            )
        except Exception as error:  # a template is a program of the model's authors: it may raise anything
            raise _poison(f"the model's chat template refuses the prompt: {error}") from error
        return rendered

    def _content(self, template: ChatTemplate, text: str, items: int) -> list[dict[str, str]] | str:
        if template.parts:
            media: list[dict[str, str]] = [{"type": self.placeholder.modality}] * items
            return [*media, {"type": "text", "text": text}]
        return "\n".join([*self.placeholder.texts(items), text])


def _poison(detail: str) -> Poison:
    return Poison(Reason.PROMPT, detail, origin="prompt")
