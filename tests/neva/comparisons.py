"""What NeMo's own code and captiond make of the same input: frames, texts, tokens, masks, outputs, schedules."""

import contextlib
import copy
import io
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from connectors.errors import Poison
from daemon.prompts.prompt import Placeholder, Prompt, PromptEncoder
from daemon.windows import neva_frame_indices
from neva import registration
from neva.conversations import TEMPLATES
from neva.evaluate.records import AnswerPrinter, AnswerRecords, model_text, read_questions
from neva.evaluate.settings import EvaluateSettings
from neva.media_settings import ModelSettings
from neva.training.dataset.records import TrainingRecord
from neva.training.samples import IGNORED, ConversationEncoder
from neva.training.schedule import rate_at
from neva.training.settings import ScheduleSettings
from tests.neva.faults import CUT, FIRST_MASKS, fault_of_answer, fault_of_mask, fault_of_prompt
from tests.neva.nemo_checkout import Nemo
from tests.neva.random_inputs import choose, talk, text

PATCH, START, END = "<extra_id_3>", "<extra_id_4>", "<extra_id_5>"
ASKED = tuple(name for name in ("nvgpt", "nv_steerlm", "nv_dpo", "mistral", "llama_2", "v1", "llama_3", "yi_34b"))
TRAINED = (*ASKED, "plain")
FRAMES, PATCHES = 2, 3


@dataclass(frozen=True)
class Case:
    """One comparison. ``fault`` names the fault of NeMo that explains a difference, where the input has one."""

    subject: str
    ours: Any
    theirs: Any
    given: Any
    fault: str | None = None


@dataclass
class Tokenizers:
    """One tokenizer as NeMo and as captiond have it."""

    name: str
    theirs: Any
    ours: Any
    has_dummy_prefix: bool
    ids: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.ids = {token: self.ours.convert_tokens_to_ids(token) for token in (PATCH, START, END)}

    def ended(self, ids: list[int]) -> list[int]:
        """Return ids of the first generation, which knew the two aliases by their numbers in Llama 2 alone."""
        own = {self.ours.convert_tokens_to_ids(f"<extra_id_{alias}>"): number for alias, number in ((6, 1), (7, 2))}
        return [own.get(number, number) for number in ids]

    def widened(self, ids: list[int], *, marked: bool) -> list[int]:
        """Return NeMo's ids with captiond's token for each slot of a span: NeMo has others at its ends."""
        patch, start, end = (self.ids[token] for token in (PATCH, START, END))
        slots = {patch, 0} if marked else {patch, 0, start, end}
        return [patch if number in slots else number for number in ids]


def frames(nemo: Nemo, rng: random.Random, count: int) -> Iterator[Case]:
    """Compare the numbers of the frames that a loader takes, and the order of their colours."""
    for _ in range(count):
        length, wanted = rng.randint(1, 20_000), rng.randint(1, 64)
        splice = choose(rng, (None, None, None, "first", "middle", "last"))
        loader = nemo.dataset.TarOrFolderVideoLoader("folder", {"splice_single_frame": splice, "num_frames": wanted})
        taken = loader.flatten_frames(_Numbered(length))
        taken = taken if isinstance(taken, list) else [taken]
        pixels = [np.asarray(frame)[0, 0] for frame in taken]
        pixels = [pixel[::-1] if nemo.is_first else pixel for pixel in pixels]  # blue for red: legacy_bgr
        ours = neva_frame_indices(length, 1 if splice else wanted, splice)
        theirs = [int(red) << 16 | int(green) << 8 | int(blue) for red, green, blue in pixels]
        yield Case("frames", ours, theirs, (length, wanted, splice))


class _Numbered:
    """A video of NeMo's reader; the colour of each frame is its number."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> Any:
        number = int(number) % self._length
        pixel = np.array([[[number >> 16, number >> 8 & 255, number & 255]]], np.uint8)
        return SimpleNamespace(asnumpy=lambda: pixel)


def training(nemo: Nemo, rng: random.Random, count: int, kit: Tokenizers, template: str) -> Iterator[Case]:
    """Compare tokens and masks of training conversations."""
    make = _preprocess(nemo, template)
    if make is None:
        return
    for _ in range(count):
        media_type = choose(rng, ("video", "image"))
        said = talk(
            rng,
            media_type,
            turns=1 if template == "plain" else 4,
            labels=not nemo.is_first or template in ("nvgpt", "nv_steerlm"),
            system=template.startswith("nv"),
        )
        marked, length = rng.random() < 0.3, choose(rng, (100_000, 100_000, 60))
        config = _config(template, media_type, marked=marked) | {"add_extra_token": 1, "context_length": length}
        source = [copy.deepcopy(said.as_record("human", "gpt", media_type))]
        if said.media:
            source = nemo.dataset.preprocess_multimodal(source, config, PATCHES, use_plain=template == "plain")
        theirs = make(source, kit.theirs, config)
        slots = PATCHES * (FRAMES if media_type == "video" else 1)
        encoder = ConversationEncoder(kit.ours, template, PATCH, slots, length, marked, "nvgpt")
        try:
            ids, targets = encoder.encode(TrainingRecord(said.turns, "a" if said.media else None, said.system))
        except Poison as refused:
            yield Case(f"tokens, {template}", refused.detail, theirs["tokens"][0].tolist(), said, CUT)
            continue
        tokens, labels = (theirs[name][0].tolist() for name in ("tokens", "labels"))
        if nemo.is_first and template in ("llama_2", "v1"):
            tokens, labels = kit.ended(tokens), kit.ended(labels)
        yield Case(f"tokens, {template}", ids[:-1], kit.widened(tokens, marked=marked), said)
        masks = [-1 if target == IGNORED else target for target in targets[1:]]
        fault = fault_of_mask(template, said, has_dummy_prefix=kit.has_dummy_prefix)
        if nemo.is_first and template == "llama_2":
            fault = FIRST_MASKS
        yield Case(f"masks, {template}", masks, labels, said, fault)


def _preprocess(nemo: Nemo, template: str) -> Callable[..., Any] | None:
    name = {"nv_steerlm": "nvgpt", "mistral": "llama_2"}.get(template, template)
    found = getattr(nemo.dataset, f"preprocess_{name}", None)
    if template == "mistral":
        return None if nemo.is_first else lambda *given: found(*given, is_mistral=True)  # type: ignore[misc]
    return found


def _config(template: str, media_type: str, *, marked: bool) -> dict[str, Any]:
    return {
        "is_multimodal": True,
        "sep_image_conv_front": False,
        "model_type": "nvgpt",
        "conv_template": template,
        "use_im_start_end": marked,
        "media_type": media_type,
        "num_frames": FRAMES,
        "mm_mlp_adapter_type": "linear",
    }


def asking(nemo: Nemo, rng: random.Random, count: int, kit: Tokenizers, template: str) -> Iterator[Case]:
    """Compare the tokens of prompts; at times an image is shown to a checkpoint of videos."""
    if _preprocess(nemo, template) is None:
        return
    registration.register()
    encoder = PromptEncoder(kit.ours, Placeholder.of_token("video", PATCH, kit.ids[PATCH]), None)
    for _ in range(count):
        media, trained = choose(rng, (("video", "video"), ("image", "image"), ("image", "video")))
        asked, token, marked = text(rng), f"<{media}>", rng.random() < 0.3
        prompt = choose(rng, (token + asked, asked + token, f"{token} \n{asked}", f"{asked}{token} \n"))
        config = _config(template, trained, marked=marked) | {"add_extra_token": 0, "context_length": 100_000}
        theirs = nemo.strategy.neva_process_prompts(prompt, kit.theirs, config, PATCHES, template)[0]
        facts = {"media_type": media, "conv_template": template, "use_im_start_end": marked, "num_frames": FRAMES}
        ours = encoder.encode(Prompt(model_text(prompt, ModelSettings.model_validate(facts)), template), 1)
        slots = PATCHES * (FRAMES if media == "video" else 1)
        ours = [number for one in ours for number in ([one] * slots if one == kit.ids[PATCH] else [one])]
        fault = fault_of_prompt(template, prompt, media, trained)
        yield Case(f"prompts, {template}", ours, kit.widened(theirs, marked=marked), prompt, fault)


def schedules(nemo: Nemo, rng: random.Random, count: int) -> Iterator[Case]:
    """Compare the learning rate at every step."""
    for _ in range(count):
        steps, warmup = rng.randint(2, 60), rng.randint(0, 80)
        constant = choose(rng, (0, 0, rng.randint(1, 70)))
        highest = rng.uniform(1e-5, 1e-2)
        lowest = highest * choose(rng, (0.0, 0.01, 0.5))
        given = {"warmup_steps": warmup, "constant_steps": constant, "min_lr": lowest}
        if constant and warmup == 0 and constant >= steps:  # NeMo divides by zero
            continue
        optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=highest)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            schedule, theirs = nemo.schedules.CosineAnnealing(optimiser, max_steps=steps, **given), []
            for _ in range(steps + 3):
                theirs.append(schedule.get_last_lr()[0])
                optimiser.step()
                schedule.step()
        ours = [rate_at(step, steps, highest, ScheduleSettings(**given)) for step in range(steps + 3)]
        yield Case("schedules", ours, theirs, (steps, highest, given))


def outputs(nemo: Nemo, rng: random.Random, count: int, kit: Tokenizers, folder: Path) -> Iterator[Case]:
    """Compare output records, key by key and in their order, and what is printed, over NeMo's own script."""
    for template in ASKED:
        if _preprocess(nemo, template) is None:
            continue
        for _ in range(max(1, count // len(ASKED))):
            yield from _one_output(nemo, rng, kit, template, folder)


def _one_output(nemo: Nemo, rng: random.Random, kit: Tokenizers, template: str, folder: Path) -> Iterator[Case]:
    from tests.neva.nemo_evaluation import evaluated

    media = choose(rng, ("video", "image"))
    placed = choose(rng, ("left", "right", None))
    separate = rng.random() < 0.3 and not nemo.is_first
    record = _prompt_record(rng, media, placed, first=nemo.is_first)
    answer = text(rng, 12).strip() or "a"
    said, theirs, printed = evaluated(nemo, kit, template, record, media, placed, answer, folder, separate=separate)
    settings = EvaluateSettings.model_validate(
        {
            "inference": {"media_type": media, "insert_media_token": placed},
            "add_media_sep": separate,
            "neva_model_file": "a.nemo",
            **{"tensor_model_parallel_size": 1, "trainer": {"devices": 1}},
        }
    )
    facts = ModelSettings.model_validate(
        {"media_type": media, "conv_template": template, "answer_key": "text" if nemo.is_first else "pred_answer"}
    )
    asked = read_questions([copy.deepcopy(record)], settings, facts)
    answers, shown = AnswerRecords(asked, settings, facts), io.StringIO()
    caption: Any = SimpleNamespace(text=said, status="ok", logprobs=None, detail=None)
    ours = answers.compose(0, caption, None)
    with contextlib.redirect_stdout(shown):
        printer = AnswerPrinter(1, answers.key, print)
        printer.take(0, ours)
    fault = fault_of_answer(template, said)
    given = (record, answer)
    yield Case(f"output keys, {template}", list(ours), list(theirs), given)
    end = TEMPLATES[template].stop[0] if template.startswith("nv") else ""  # the token that ended it is left out here
    for key, value in ours.items():
        wanted = str(theirs[key]).removesuffix(f"\n{end}") if key == "full_text" else theirs.get(key)
        name = "answer" if key == answers.key else key if key in ("full_text", "prompt") else "others"
        yield Case(f"output {name}, {template}", value, wanted, given, fault if key == answers.key else None)
    printed = printed.replace(f"\n{end}\n\nCLEAN", "\n\nCLEAN") if end else printed
    yield Case(f"output printed, {template}", shown.getvalue(), printed, given, fault)


def _prompt_record(rng: random.Random, media: str, placed: str | None, *, first: bool) -> dict[str, Any]:
    asked = text(rng)
    if placed is None:
        asked = choose(rng, (f"<{media}>{asked}", f"{asked}\n<{media}>"))
    keys = ("prompt", "text") if first else ("prompt", "text", "question")
    record: dict[str, Any] = {media: "a.mp4", choose(rng, keys): asked}
    for key, value in (
        ("category", "conv"),
        ("question_id", 3),
        ("answer_id", 7),
        ("metadata", {"a": 1}),
        ("own", [1]),
    ):
        if rng.random() < 0.5:
            record[key] = value
    return record
