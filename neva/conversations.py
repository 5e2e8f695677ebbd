"""Video NeVA's conversation templates, byte for byte those of NeMo v2.0.0 (``data/neva/conversation.py``).

A conversation begins with the system text; turns of a question and an answer follow. :func:`segments` returns a
conversation in pieces and tells which of them count in training's loss; :func:`render` returns the prompt for one
question. Templates write the beginning and the end of a text as the aliases ``<extra_id_6>`` and ``<extra_id_7>``. In
Llama-like templates :func:`own_tokens` replaces the aliases by the tokenizer's own tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

VIDEO, IMAGE = "<video>", "<image>"
SYSTEM, SEPARATOR, LABELS = "<extra_id_0>", "<extra_id_1>", "<extra_id_2>"
BOS_ALIAS, EOS_ALIAS = "<extra_id_6>", "<extra_id_7>"

CHAT = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
HUMAN_CHAT = CHAT.replace("user", "human")
LLAVA = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
DEFAULT_LABEL = (
    "quality:4,toxicity:0,humor:0,creativity:0,helpfulness:4,correctness:4,coherence:4,complexity:4,verbosity:4"
)


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer, which is None where the model is to give it.

    ``label`` holds SteerLM's attributes of the answer.
    """

    question: str
    answer: str | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a conversation.

    Only pieces that are ``learned`` count in training's loss.
    """

    text: str
    learned: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """The form of a conversation in one family of models.

    ``%s`` stands for the system text, the question or the answer. ``head`` goes before the first turn when there is a
    system text, ``bare_head`` when there is none; in families whose system text belongs to the first question,
    ``first_question`` goes before that. ``between`` separates an answer from the next question. ``stop`` are the
    strings that end an answer beside the tokenizer's end token. ``system`` is the system text unless the user gives
    one, to which ``system_end`` is added. In families with ``labels`` an answer's label stands before it, or ``label``
    where it has none of its own. With ``aliases`` the begin and end aliases become the tokenizer's own tokens. With
    ``strips`` there is no white space around a question, and no line end behind the last answer or an empty one.
    """

    ask: str
    answer: str
    system: str = ""
    head: str = ""
    bare_head: str = ""
    first_question: str = ""
    between: str = ""
    stop: tuple[str, ...] = ()
    labels: bool = False
    label: str | None = None
    aliases: bool = False
    strips: bool = False
    system_end: str = ""

    def opening(self, system: str) -> str:
        """Return the text before the first turn."""
        return self.head.replace("%s", system) if "%s" in self.head and system else self.bare_head

    def question(self, turn: Turn, system: str, *, first: bool) -> str:
        """Return the text of a turn up to the beginning of its answer."""
        text = turn.question.strip() if self.strips else turn.question
        if first and self.first_question and system:
            text = self.first_question.replace("%s", system) + text
        label = self.label if turn.label is None else turn.label
        line = f"{LABELS}{label}\n" if self.labels and label is not None else ""
        return self.ask.replace("%s", text) + line

    def said(self, answer: str, *, last: bool) -> str:
        """Return the text of an answer with its end."""
        text = self.answer.replace("%s", answer)
        return text.removesuffix("\n") if self.strips and (last or not answer) else text


_NVGPT = Template(
    head=f"{SYSTEM}System\n%s{SEPARATOR}",
    bare_head=f"{SYSTEM}System\n{SEPARATOR}",
    ask=f"User\n%s\n{SEPARATOR}Assistant\n",
    answer=f"%s\n{SEPARATOR}",
    system=f"{CHAT}\n\n",
    system_end="\n\n",
    stop=(SEPARATOR,),
    labels=True,
    label=DEFAULT_LABEL,
)
_NV_DPO = Template(
    head=_NVGPT.head,
    bare_head=_NVGPT.bare_head,
    ask=_NVGPT.ask,
    answer=_NVGPT.answer,
    system="\n",
    system_end="\n",
    stop=(SEPARATOR,),
    labels=True,
)
_V1 = Template(
    head="%s ",
    bare_head=" ",
    ask="USER: %s ASSISTANT:",
    answer=f" %s{EOS_ALIAS}",
    system=CHAT,
    between=" ",
    aliases=True,
)
_LLAVA_V1 = Template(
    head=_V1.head, bare_head=" ", ask=_V1.ask, answer=_V1.answer, system=HUMAN_CHAT, between=" ", aliases=True
)

TEMPLATES: Mapping[str, Template] = {
    "nvgpt": _NVGPT,
    "nv_steerlm": _NVGPT,
    "nv_dpo": _NV_DPO,
    "llama_2": Template(
        ask=" [INST] %s [/INST]",
        answer=f" %s {EOS_ALIAS}",
        first_question="<<SYS>>\n%s\n<</SYS>>\n\n",
        system=LLAVA,
        between=BOS_ALIAS,
        aliases=True,
    ),
    "mistral": Template(
        bare_head=BOS_ALIAS,
        ask=" [INST] %s [/INST]",
        answer=f"%s{EOS_ALIAS}",
        first_question="%s\n",
        aliases=True,
    ),
    "v1": _V1,
    "vicuna_v1": _V1,
    "llava_v1": _LLAVA_V1,
    "llama_3": Template(
        head="<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n%s<|eot_id|>",
        bare_head="<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n<|eot_id|>",
        ask="<|start_header_id|>user<|end_header_id|>\n\n%s<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        answer="%s<|eot_id|>",
        system=LLAVA,
        stop=("<|eot_id|>",),
    ),
    "yi_34b": Template(
        head="<|im_start|>system\n%s<|im_end|>\n",
        ask="<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n",
        answer="%s<|im_end|>\n",
        stop=("<|im_end|>",),
        strips=True,
    ),
    "plain": Template(ask="%s", answer="%s\n"),
    "interleaved": Template(ask="%s", answer="%s"),
}
STOP: Mapping[str, tuple[str, ...]] = {name: template.stop for name, template in TEMPLATES.items()}
NOT_FOR_INFERENCE = frozenset({"plain", "interleaved"})  # training's own; NeVA's evaluation refuses them


def segments(name: str, turns: Sequence[Turn], system: str | None = None) -> tuple[Segment, ...]:
    """Return a conversation of one or more turns in pieces, whose joined texts are the whole conversation.

    ``system`` replaces the template's own system text and is not changed. Only the last turn may lack its answer.
    Answers and the strings that end them are learned; questions, labels and separators are not, but for interleaved
    text, which is learned whole. As in NeVA, an empty answer ends with no string and is not learned, so a conversation
    that ends in one is a prompt.

    Raises:
        KeyError: there is no such template.
        ValueError: there is no turn, or a turn before the last one lacks its answer.
    """
    template = TEMPLATES[name]
    if not turns or any(turn.answer is None for turn in turns[:-1]):
        raise ValueError("a conversation has turns, and only its last one may lack an answer")
    said = template.system if system is None else system
    pieces, between = [Segment(template.opening(said))], ""
    for number, turn in enumerate(turns):
        if name == "plain" and number == 0:
            turn = replace(turn, question=_bare(turn.question))
        asked = between + template.question(turn, said, first=number == 0)
        pieces.append(Segment(asked, learned=name == "interleaved"))
        last = number == len(turns) - 1
        if is_said := _is_said(template, turn, last=last):
            pieces.append(Segment(template.said(turn.answer or "", last=last), learned=True))
        between = template.between if is_said or template.between == BOS_ALIAS else ""
    return tuple(piece for piece in pieces if piece.text)


def _is_said(template: Template, turn: Turn, *, last: bool) -> bool:
    """Whether a turn has an answer to write: an empty one counts only where something else stands in its place."""
    if turn.answer or turn.answer is None:
        return turn.answer is not None
    if template in (TEMPLATES["plain"], TEMPLATES["interleaved"]):
        return True
    has_label = template.labels and (turn.label is not None or template.label is not None)
    return (has_label or template.strips) and not last


def _bare(question: str) -> str:
    """Return the media token of pretraining's question, which is all that is left of it; a text alone stays."""
    return next((token for token in (VIDEO, IMAGE) if token in question), question)


def conversation(name: str, turns: Sequence[Turn], system: str | None = None) -> str:
    """Return the whole text of a conversation; see :func:`segments`."""
    return "".join(piece.text for piece in segments(name, turns, system))


def own_tokens(name: str, text: str, bos: str = "<s>", eos: str = "</s>") -> str:
    """Return a conversation with the aliases of its beginning and end replaced by the tokenizer's own tokens.

    This is so in Llama-like templates alone; in the others the model sees the aliases themselves. NeVA adds no BOS of
    its own: a text is encoded as it stands, without special tokens around it.
    """
    return text.replace(BOS_ALIAS, bos).replace(EOS_ALIAS, eos) if TEMPLATES[name].aliases else text


def render(name: str, text: str, system: str | None = None) -> str:
    """Return the prompt for one question, in which ``<video>`` stands once, where the frames are shown.

    The frames are shown before a question that has no media token (``insert_media_token: left``). ``<image>`` in a
    question becomes ``<video>`` and the newline that NeVA puts behind an image. A ``system`` text gets the newlines
    that end the template's own system text.
    """
    if system is not None and not system.endswith("\n"):
        system += TEMPLATES[name].system_end
    if IMAGE in text and VIDEO not in text:
        text = text.replace(IMAGE, f"{VIDEO}\n")
    elif VIDEO not in text:
        text = VIDEO + text
    return own_tokens(name, conversation(name, [Turn(text)], system))
