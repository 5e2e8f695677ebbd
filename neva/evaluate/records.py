"""Records of a prompt file as questions, and answers as records of NeVA's output."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.contract import Caption, Rejection, TokenLogprob
from connectors.errors import ConfigurationError, Poison
from connectors.prompt_file.records import Question
from daemon.prompts.templates import AUTO
from neva.conversations import IMAGE, NOT_FOR_INFERENCE, TEMPLATES, VIDEO, Turn, conversation, own_tokens
from neva.evaluate.responses import clean_answer
from neva.evaluate.settings import EvaluateSettings
from neva.media_settings import ModelSettings
from neva.token_span import insert_media_token, marked, media_token

_TEXT_KEYS = ("prompt", "text", "question")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the user's text with its media token, which the output repeats."""

    question: Question
    prompt: str


def read_questions(
    records: Sequence[Mapping[str, Any]], settings: EvaluateSettings, media: ModelSettings
) -> list[Asked]:
    """Return every record's question.

    Raises:
        ConfigurationError: a record lacks its media, its text or its one media token; the message says which.
    """
    if media.conv_template in NOT_FOR_INFERENCE:
        raise ConfigurationError(f"{media.conv_template} is for training alone", path="data.conv_template")
    asked = []
    for number, record in enumerate(records):
        name = record.get(media.media_type)
        text = next((record[key] for key in _TEXT_KEYS if key in record), None)
        if not isinstance(name, str) or not isinstance(text, str):
            lacks = f"{media.media_type!r}" if not isinstance(name, str) else " or ".join(map(repr, _TEXT_KEYS))
            raise ConfigurationError(f"record {number + 1} lacks {lacks}", path="prompt_file")
        try:
            prompt = insert_media_token(
                text, settings.inference.insert_media_token, media.media_type, separate=settings.add_media_sep
            )
        except Poison as fault:
            raise ConfigurationError(f"record {number + 1}: {fault.detail}", path="prompt_file") from fault
        asked.append(Asked(Question(number, record, name, model_text(prompt, media)), prompt))
    return asked


def model_text(prompt: str, media: ModelSettings) -> str:
    """Return the user's text as the daemon's prompts have it: ``<video>`` stands for the frames, of an image too."""
    token = media_token(media.media_type)
    if media.conv_template == AUTO:
        return prompt.replace(token, "").strip()  # the model's own template puts the frames in
    text = prompt.replace(token, f"{token}\n") if media.media_type == "image" else prompt
    if media.use_im_start_end:
        text = marked(text, media.model_type, media.media_type)
    return text.replace(token, VIDEO)


class AnswerRecords:
    """The records of the output file."""

    def __init__(self, asked: Sequence[Asked], settings: EvaluateSettings, media: ModelSettings) -> None:
        self._asked, self._media = asked, media
        self.key, self._model_id = settings.inference.answer_key or media.answer_key, settings.neva_model_file
        self._ends = settings.inference.end_strings

    def compose(self, number: int, caption: Caption | None, rejection: Rejection | None) -> dict[str, Any]:
        """Return a record of the output: its own keys, then NeVA's in NeVA's order, and ``error`` without an answer."""
        asked = self._asked[number]
        said = "" if caption is None else caption.text
        answer = clean_answer(self._media.conv_template, said, self._ends)
        record = {
            **asked.question.record,
            "prompt": asked.prompt,
            "full_text": self._full_text(asked.prompt, said),
            self.key: answer,
            "model_id": self._model_id,
        }
        record.setdefault("answer_id", 0)
        record.setdefault("metadata", {})
        if rejection is not None:
            record["error"] = f"{rejection.reason}: {rejection.detail}"
        elif caption is not None and caption.status == "error":
            record["error"] = caption.detail
        if caption is not None and caption.logprobs is not None:
            record["logprobs"] = [_as_record(token) for token in caption.logprobs]
        return record

    def _full_text(self, prompt: str, said: str) -> str:
        """Return the whole conversation, with one media token for all frames."""
        template = self._media.conv_template
        if template == AUTO:
            return prompt + ("" if not said or prompt.endswith(("\n", " ")) else " ") + said
        shown = prompt.replace(IMAGE, f"{IMAGE}\n")
        # without the tokens of beginning and end, which NeMo's tokenizer does not write out
        whole = own_tokens(template, conversation(template, [Turn(shown)]), "", "")
        begins = TEMPLATES[template].answer.partition("%s")[0]
        return whole + ("" if not said or said.startswith(begins) else begins) + said


class AnswerPrinter:
    """Prints answers as NeVA's script does, counted from 0, in the order of the prompts.

    Each is printed as soon as all before it are.
    """

    def __init__(self, count: int, answer_key: str, show: Callable[[str], None]) -> None:
        self._count, self._key, self._show = count, answer_key, show
        self._waiting: dict[int, Mapping[str, Any] | None] = {}
        self._next = 0

    def skip(self, numbers: Sequence[int]) -> None:
        """Leave out records that an earlier run answered."""
        self._waiting |= dict.fromkeys(numbers)
        self._print_ready()

    def take(self, number: int, record: Mapping[str, Any]) -> None:
        """Take an answer."""
        self._waiting[number] = record
        self._print_ready()

    def _print_ready(self) -> None:
        while self._next in self._waiting:
            record = self._waiting.pop(self._next)
            self._next += 1
            if record is not None:
                self._show(self._render(self._next - 1, record))

    def _render(self, place: int, record: Mapping[str, Any]) -> str:
        last = f"ERROR: {record['error']}" if "error" in record else f"CLEAN RESPONSE: {record[self._key]}"
        return (
            f"------------- PROMPT {place} of {self._count} ------------ \n"
            f"{record['full_text']}\n\n{last}\n{'-' * 45}\n"
        )


def _as_record(token: TokenLogprob) -> dict[str, Any]:
    """Return a token's log-probability under the names that OpenAI's interface has for it."""
    record: dict[str, Any] = {"token": token.token, "logprob": token.logprob}
    if token.top:
        record["top_logprobs"] = [_as_record(one) for one in token.top]
    return record
