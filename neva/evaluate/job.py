"""NeVA's evaluation job in captiond's own main loop: a prompt file goes in, answers come out.

Questions are clips like any other: they are decoded ahead, batched in the engine, and answered in the order in which
they finish. The output is in the order of the prompts, and an interrupted job resumes where it stopped.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from connectors.at_least_once import AtLeastOnceRoute
from connectors.contract import Caption, Clip, Rejection
from connectors.errors import ConfigurationError, ExitCode
from connectors.media.spool import Spool
from connectors.prompt_file.answer_journal import AnswerJournal
from connectors.prompt_file.media_shelf import MediaShelf
from connectors.prompt_file.records import read_records
from connectors.prompt_file.sink import PromptFileSink
from connectors.prompt_file.source import PromptFileSource
from daemon.build import build_pipeline
from daemon.config.clip_settings import ClipSettings
from daemon.config.engine_settings import VllmSettings
from daemon.config.settings import Settings
from daemon.engines.build import build_engine
from daemon.prompts.prompt import Prompt
from daemon.supervisor import Components, Supervisor
from neva import registration
from neva.checkpoints.import_cache import fingerprint
from neva.evaluate.engine import NevaEngine, daemon_settings, prompt_of
from neva.evaluate.model import find_model, shown_media
from neva.evaluate.records import AnswerPrinter, AnswerRecords, Asked, read_questions
from neva.evaluate.settings import EvaluateSettings
from neva.evaluate.shared_sampler import SharedSampler
from neva.media_settings import ModelSettings
from neva.pixel_values import AspectRatio

log = logging.getLogger(__name__)

SOURCE = "prompt_file"


@dataclass(frozen=True)
class Job:
    """An evaluation whose settings, prompts and model were checked before anything is loaded.

    ``prepares`` is the aspect ratio that frames are given before the model's own processor gets them. ``identity``
    is a hash of everything that the answers depend on.
    """

    settings: EvaluateSettings
    inner: Settings
    media: ModelSettings
    prompt: Prompt
    asked: list[Asked]
    output: Path
    prepares: AspectRatio
    identity: str

    @classmethod
    def of(cls, settings: EvaluateSettings) -> "Job":
        """Read the prompts and find the model.

        Raises:
            ConfigurationError: settings, prompts or model are wrong.
        """
        prompts, output = settings.prompt_file.expanduser(), settings.output_file.expanduser()
        records = read_records(prompts)
        if not output.parent.is_dir():
            raise ConfigurationError(f"there is no folder {output.parent}", path="output_file")
        model, facts = settings.neva_model_file, ModelSettings.model_validate({})
        if settings.engine.get("kind", "vllm") == "vllm":
            model, facts = find_model(settings)
        media = shown_media(settings, facts)
        prompt = prompt_of(settings, media)
        inner = daemon_settings(settings, model, media, SOURCE)
        if isinstance(inner.engine, VllmSettings):
            model = inner.engine.model or model
        prepares = media.image_aspect_ratio if media.image_aspect_ratio != facts.image_aspect_ratio else "square"
        identity = _identity(settings, media, prompt, prompts, model)
        return cls(settings, inner, media, prompt, read_questions(records, settings, media), output, prepares, identity)


def _identity(settings: EvaluateSettings, media: ModelSettings, prompt: Prompt, prompts: Path, model: str) -> str:
    """Return a hash of everything that the answers depend on."""
    parts = [
        hashlib.sha256(prompts.read_bytes()).hexdigest(),
        media.model_dump(mode="json"),
        asdict(prompt),
        fingerprint(Path(model)) if Path(model).exists() else model,
        settings.model_dump(mode="json", include={"inference", "trainer", "quantization", "decoder", "engine"}),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


async def evaluate(settings: EvaluateSettings, show: Callable[[str], None] = print) -> ExitCode:
    """Answer every record of the prompt file and write the output file.

    ``show`` is called with each answer as NeVA's script prints it. The exit code is 65 where a record could not be
    answered; the output of that record gives the reason under ``error``.

    Raises:
        ConfigurationError: settings, prompts or model are wrong; nothing was loaded.
    """
    registration.register()
    job = Job.of(settings)
    limits = job.inner.limits
    spool = Spool(job.output.parent, limits.in_flight_bytes // 2)
    shelf = MediaShelf(settings.inference.media_base_path.expanduser(), limits.max_clip_bytes, spool=spool)
    shelf.open()
    journal = AnswerJournal(job.output.with_name(f"{job.output.name}.journal"), job.identity)
    try:
        journal.open()
        return await _answer(job, shelf, journal, show)
    finally:
        journal.close()
        shelf.close()


async def _answer(job: Job, shelf: MediaShelf, journal: AnswerJournal, show: Callable[[str], None]) -> ExitCode:
    """Run the main loop over the records that are not answered yet."""
    engine = NevaEngine(build_engine(job.inner), job.prepares, legacy_bgr=job.media.legacy_bgr)
    answers = AnswerRecords(job.asked, job.settings, job.media)
    printer = AnswerPrinter(len(job.asked), answers.key, show)
    printer.skip(sorted(journal.answers))

    def compose(number: int, caption: Caption | None, rejection: Rejection | None) -> dict[str, Any]:
        record = answers.compose(number, caption, rejection)
        printer.take(number, record)
        return record

    sink = PromptFileSink(job.output, journal, len(job.asked), compose)
    await sink.finish()
    if sink.is_complete:  # an earlier run ended between its last answer and the output
        return ExitCode.CLEAN
    source = PromptFileSource(SOURCE, [one.question for one in job.asked], shelf, journal)
    windows, frames = job.media.to_policies()
    captioned = ClipSettings(windows, frames, job.prompt, job.settings.decoder)

    def choose(clip: Clip) -> ClipSettings:
        return captioned.asked(clip.attributes["prompt"])

    left = Counter(one.question.media for one in job.asked if one.question.number not in journal.answers)
    inner = job.inner
    frame_bytes = inner.limits.in_flight_bytes - (shelf.spool.max_bytes if shelf.is_archive else 0)
    sampler = SharedSampler(inner.limits, inner.timeouts, frame_bytes=frame_bytes, questions=left)
    components = Components(
        sampler,
        engine,
        sink,
        [AtLeastOnceRoute(source, sink)],
        lambda components: build_pipeline(inner, components.routes, components.sampler, components.engine, choose),
        inner.timeouts.drain_s,
    )
    return _end(await Supervisor(components).run(), sink, journal, job)


def _end(code: ExitCode, sink: PromptFileSink, journal: AnswerJournal, job: Job) -> ExitCode:
    """Log how the job ended, and return its exit code."""
    count = len(job.asked)
    if not sink.is_complete:
        log.warning("%d of %d records are answered; the same command goes on.", len(journal.answers), count)
        return code
    log.info("%s holds %d answers.", job.output, count)
    if sink.failed:
        log.warning("%d of %d records could not be answered; their output says why.", sink.failed, count)
        return ExitCode.CLIP_FAILED if code is ExitCode.CLEAN else code
    return code
