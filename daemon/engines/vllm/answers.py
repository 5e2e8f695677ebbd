"""The reader of a model's answers: how they are sampled, and what of them is the caption.

Which of vLLM's reasoning parsers fits a model is found from the model itself: each says between which marks the models
that it is for reason, and the pair that stands in the model's template, else in its vocabulary, is the model's. A
parser that is named in ``engine.args`` wins.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from connectors.errors import ConfigurationError, Poison, Reason
from daemon.engines.contract import Completion
from daemon.engines.library_errors import sentence
from daemon.engines.vllm import library
from daemon.engines.vllm.args import sampling_arguments, structured_arguments
from daemon.prompts.prompt import Prompt, PromptEncoder
from daemon.prompts.reasoning import Marks, ReasoningCutter

_REMEMBERED = 256  # wordings of prompts: a source has one, unless its senders ask
_UNSAID = {"temperature": 1.0}  # of `vllm serve`, where the model's file does not say either


class AnswerReader:
    """Makes arguments of ``SamplingParams`` from prompts, and cuts the reasoning out of the answers."""

    def __init__(self, vllm_config: Any, encoder: PromptEncoder, tokenizer: Any) -> None:
        self._model_config, self._encoder, self._tokenizer = vllm_config.model_config, encoder, tokenizer
        self._left_open: dict[str, bool] = {}
        outputs = vllm_config.structured_outputs_config
        self._chosen, self._plugin = outputs.reasoning_parser, outputs.reasoning_parser_plugin
        if self._chosen:
            self._named()

    def prepare(self) -> None:
        """Find what the model's files say, which takes seconds; else the first answer waits for it."""
        _ = self.cutter, self._shows_marks, self._end_id, self._of_model

    def sampling(self, prompt: Prompt) -> dict[str, Any]:
        """Return the arguments of ``SamplingParams`` for a prompt."""
        if prompt.from_model:
            prompt = replace(prompt, **{n: self._of_model[n] for n in prompt.from_model if n in self._of_model})
        arguments = sampling_arguments(prompt, self._encoder.stop(prompt))
        if prompt.form is not None:
            arguments["structured_outputs"] = structured_arguments(prompt.form)
        return arguments if self._shows_marks else arguments | {"skip_special_tokens": False}

    def read(self, done: Completion, prompt: Prompt) -> Completion:
        """Return an answer without its reasoning, or with it where the prompt keeps it."""
        found = self.cutter.cut(done.text, prompt.reasoning, is_open=self._is_open(prompt), is_cut=done.truncated)
        text = found.text
        if not self._shows_marks and not (found.has_reasoned and prompt.reasoning == "keep"):
            text = self._without_specials(text)
        if not found.has_reasoned:
            return replace(done, text=text)
        spent = self._reasoning_tokens(done, found.text)
        kept = 0 if prompt.reasoning == "keep" and found.text else spent
        return replace(done, text=text, detail=found.detail, reasoning_tokens=spent, logprobs=done.logprobs[kept:])

    def _is_open(self, prompt: Prompt) -> bool:
        """Whether a prompt ends inside the reasoning; known already for the wording of most windows."""
        marks = self.cutter.marks
        if marks is None:
            return False
        if prompt.wording not in self._left_open:
            if len(self._left_open) >= _REMEMBERED:
                self._left_open.clear()
            self._left_open[prompt.wording] = self._encoder.leaves_open(prompt, marks)
        return self._left_open[prompt.wording]

    @cached_property
    def cutter(self) -> ReasoningCutter:
        """The cutter of the model's reasoning: a parser of vLLM where one knows its marks, else the common ones."""
        parser = self._named() if self._chosen else self._found()
        if parser is None:
            return ReasoningCutter()
        return ReasoningCutter(_marks_of(parser), partial(_parse, parser))

    def _named(self) -> Any:
        try:
            return library.reasoning_parser(self._chosen, self._tokenizer, self._model_config, self._plugin)
        except Exception as error:  # of parsers that come with a plugin too
            message = f"{self._chosen!r} does not fit the model: {sentence(error)}"
            raise ConfigurationError(message, path="engine.args.reasoning_parser") from error

    def _found(self) -> Any:
        """Return the parser whose marks are the model's; None where no parser's are."""
        own = self._encoder.chat_template(Prompt(""))
        source, vocabulary = own.source if own is not None else "", self._tokenizer.get_vocab()
        in_vocabulary = None
        for parser in library.reasoning_parsers(self._tokenizer, self._model_config):
            marks = _marks_of(parser)
            if marks is None:
                continue
            if marks.start in source and marks.end in source:
                return parser
            if in_vocabulary is None and marks.start in vocabulary and marks.end in vocabulary:
                in_vocabulary = parser
        return in_vocabulary

    @cached_property
    def _of_model(self) -> Mapping[str, Any]:
        return _UNSAID | dict(self._model_config.get_diff_sampling_param())

    @cached_property
    def _shows_marks(self) -> bool:
        """Whether the marks are in an answer's text: those that are special tokens are, when they are asked for."""
        marks, special = self.cutter.marks, self._tokenizer.all_special_tokens
        return marks is None or (marks.start not in special and marks.end not in special)

    @cached_property
    def _end_id(self) -> int:
        """The token that ends the reasoning; -1, which none has, where it is none or several."""
        marks = self.cutter.marks
        return -1 if marks is None else int(self._tokenizer.get_vocab().get(marks.end, -1))

    def _without_specials(self, text: str) -> str:
        """Return a text as it is where special tokens are not asked for."""
        for special in self._tokenizer.all_special_tokens:
            text = text.replace(special, "")
        return text

    def _reasoning_tokens(self, done: Completion, answer: str) -> int:
        """Return how many tokens of an answer were spent on its reasoning, the marks included."""
        if not answer:
            return done.output_tokens
        if self._end_id in done.token_ids:
            return done.token_ids.index(self._end_id) + 1
        behind = self.cutter.parse(done.text)[1] or ""
        return max(0, done.output_tokens - len(self._tokenizer.encode(behind, add_special_tokens=False)))


def _parse(parser: Any, text: str) -> tuple[str | None, str | None]:
    try:
        return library.extract_reasoning(parser, text)
    except Exception as error:  # some parsers know streams of tokens alone, and those of plugins raise anything
        detail = f"the reasoning parser fails on the answer: {sentence(error)}"
        raise Poison(Reason.ENGINE_REFUSED, detail, origin="engine") from error


def _marks_of(parser: Any) -> Marks | None:
    start, end = parser.reasoning_start_str, parser.reasoning_end_str
    return Marks(start, end) if start and end else None
