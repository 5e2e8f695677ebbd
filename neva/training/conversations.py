"""Training on conversations about videos or images, in NeVA's two stages: from trained parts to a model folder.

A step takes ``global_batch_size`` samples, which Accelerate's processes share and divide into micro batches. Its loss
is the mean over all of its tokens, so the division does not change it. The samples of a batch follow from the seed and
the batch's number, and a checkpoint holds the trained weights, the optimiser and the step, so a run that was
interrupted and resumed ends with the same model as any other.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from connectors.errors import ConfigurationError, Poison
from neva.conversations import VIDEO, Turn
from neva.media_settings import ModelSettings as Facts
from neva.training.conversation_task import ConversationTask
from neva.training.dataset.blend import BlendedOrder, blended
from neva.training.dataset.record_set import RecordSet, read_training_records
from neva.training.dataset.records import RecordRules, TrainingRecord
from neva.training.devices.batches import micro_batches
from neva.training.devices.sharding import share_weights
from neva.training.export import check_exports, export_run
from neva.training.loop import TrainingLoop
from neva.training.media import TrainingMedia
from neva.training.model import load_model
from neva.training.parts import Llava
from neva.training.samples import IGNORED, Batch, Collate, ConversationEncoder, SampleOrder, TrainingSet
from neva.training.settings import TrainingSettings
from neva.training.tower_features import FeatureCache, tower_features
from neva.training.validation import Validation, read_held_out

log = logging.getLogger(__name__)

_EMPTY_STEPS = 10  # of them in a row, and the run ends: its clips are not where they are looked for


def train_conversations(loop: TrainingLoop, stage: str) -> None:
    """Train on the conversations of ``data.data_path`` and export the model.

    Raises:
        ConfigurationError: data, parts and settings do not fit each other; nothing is trained.
    """
    settings, accelerator = loop.settings, loop.accelerator
    check_exports(settings)
    rules = RecordRules(settings.model.data.media_type, settings.model.conv_template)
    records = read_training_records(settings.model.data.data_paths, rules, told=accelerator.is_main_process)
    held_out = read_held_out(settings, rules, told=accelerator.is_main_process)
    facts = facts_of(settings)
    empty = loop.is_sharded and not accelerator.is_main_process  # its share comes from the first process
    llava = load_model(settings, facts, empty=empty)
    if loop.is_sharded and settings.model.data.cache_features:
        share_weights(llava.model.model.vision_tower, accelerator.device)
    encoder = _encoder(settings, llava)
    data = _training_set(settings, records, encoder, llava, facts)
    if data.cache is not None and settings.trainer.max_steps:
        _fill_cache(loop, data, llava)
    steps = _ConversationSteps(loop, data, _collate(data, llava))
    validation = None
    if held_out is not None:
        shown = TrainingSet(held_out, encoder, _media(settings.model.data.held_out_folder, settings, llava))
        validation = Validation(loop, shown, _collate(shown, llava), steps.samples, len(records) // steps.samples)
    loop.run(stage, ConversationTask(llava.model), settings.trainer.max_steps, steps.begin, validation)
    data.media.close()
    if validation is not None:
        validation.close()
    if steps.unread:
        log.warning("%d samples taught nothing: the log says why of each.", steps.unread)
    export_run(settings, llava, facts, main=accelerator.is_main_process)
    if accelerator.is_main_process:
        log.info("%s holds the model.", settings.exp_manager.model_folder)


def facts_of(settings: TrainingSettings) -> Facts:
    """Return the facts of the model to be trained: its prompt template, and the frames that it sees."""
    model = settings.model
    shown = {name: getattr(model.data, name) for name in Facts.model_fields if hasattr(model.data, name)}
    return Facts.model_validate(
        {
            **shown,
            # pretraining's own template has no question: the model is asked with the template of its family
            "conv_template": model.conv_template if model.conv_template != "plain" else _family_template(settings),
            "model_type": model.mm_cfg.llm.model_type,
            "use_im_start_end": model.mm_cfg.use_im_start_end,
        }
    )


def _family_template(settings: TrainingSettings) -> str:
    model_type = settings.model.mm_cfg.llm.model_type
    return model_type if model_type != "plain" else "v1"


def _encoder(settings: TrainingSettings, llava: Llava) -> ConversationEncoder:
    """Return the encoder; a context that does not hold the frames of one clip is refused."""
    model = settings.model
    encoder = ConversationEncoder(
        llava.tokenizer,
        model.conv_template,
        llava.image_token,
        llava.patches * model.data.frames_shown,
        min(model.encoder_seq_length, llava.model.config.text_config.max_position_embeddings),
        model.mm_cfg.use_im_start_end,
        model.mm_cfg.llm.model_type,
    )
    try:
        encoder.encode(TrainingRecord((Turn(VIDEO, "."),), "the shortest conversation about a clip"))
    except Poison as fault:
        raise ConfigurationError(fault.detail, path="model.encoder_seq_length") from fault
    return encoder


def _media(folder: Path | None, settings: TrainingSettings, llava: Llava) -> TrainingMedia:
    assert folder is not None  # noqa: S101 - the settings' validator has checked
    data, crop_px = settings.model.data, llava.model.config.vision_config.image_size
    return TrainingMedia(folder, data, llava.pixels, crop_px, data.decoder)


def _training_set(
    settings: TrainingSettings, records: RecordSet, encoder: ConversationEncoder, llava: Llava, facts: Facts
) -> TrainingSet:
    data = settings.model.data
    media = _media(data.folder, settings, llava)
    if not data.cache_features or not records.clip_count:
        return TrainingSet(records, encoder, media)
    tower_key = hashlib.sha256()
    for name, weight in sorted(llava.model.model.vision_tower.state_dict().items()):
        tower_key.update(name.encode() + weight.float().cpu().numpy().tobytes())
    made_of = f"{records.media_digest} {tower_key.hexdigest()} {facts.model_dump_json()} {data.folder} {llava.pixels}"
    shape = (data.frames_shown, llava.patches, llava.model.config.vision_config.hidden_size)
    cache = FeatureCache(settings.exp_manager.exp_dir / "features.bin", records.clip_count, shape, made_of)
    return TrainingSet(records, encoder, media, cache)


def _collate(data: TrainingSet, llava: Llava) -> Collate:
    tower = llava.model.config.vision_config
    no_frames: Batch = {"pixels": torch.zeros(1, 3, tower.image_size, tower.image_size)}
    if data.cache is not None:
        no_frames = {"features": torch.zeros(1, llava.patches, tower.hidden_size)}
    pad = llava.tokenizer.pad_token_id
    return Collate(llava.tokenizer.eos_token_id if pad is None else pad, no_frames)


class _Uncached(torch.utils.data.Dataset[tuple[int, torch.Tensor | None]]):  # type: ignore[misc]
    """The pixels of clips whose features are not in the cache yet; None where the media can't be read."""

    def __init__(self, data: TrainingSet, clips: list[int]) -> None:
        self._data, self._clips = data, clips

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, place: int) -> tuple[int, torch.Tensor | None]:
        clip = self._clips[place]
        number = self._data.records.record_of(clip)
        name = self._data.records[number].clips[clip - self._data.records.clips(number).start]
        return clip, self._data.try_pixels(number, name)


def _fill_cache(loop: TrainingLoop, data: TrainingSet, llava: Llava) -> None:
    """Compute the frozen tower's features of every clip that has none yet; each process does its share."""
    accelerator, cache = loop.accelerator, data.cache
    assert cache is not None  # noqa: S101 - the caller has checked
    if accelerator.is_main_process:
        cache.prepare()
    accelerator.wait_for_everyone()
    cache.open()
    mine = cache.missing()[accelerator.process_index :: accelerator.num_processes]
    workers = loop.settings.model.data.num_workers
    llava.model.model.vision_tower.to(accelerator.device)
    for done, (clip, pixels) in enumerate(DataLoader(_Uncached(data, mine), batch_size=None, num_workers=workers), 1):
        with torch.inference_mode(), accelerator.autocast():
            seen = None if pixels is None else tower_features(llava.model, pixels.to(accelerator.device))
        cache.write(clip, seen)
        if done % 500 == 0 or done == len(mine):
            log.info("%d of %d clips are seen by the tower.", done, len(mine))
    accelerator.wait_for_everyone()


@dataclass(slots=True)
class _ConversationSteps:
    """The steps of a run over a training set. ``unread`` counts the samples that could not be read.

    ``empty`` counts the steps in a row, up to the last one, whose samples taught nothing.
    """

    loop: TrainingLoop
    data: TrainingSet
    collate: Collate
    unread: int = 0
    empty: int = 0

    @property
    def micro_batches(self) -> int:
        """The number of micro batches that one process runs in a step."""
        return micro_batches(self.loop.settings.model, self.loop.accelerator.num_processes)

    @property
    def samples(self) -> int:
        """The number of samples in a step, over all processes."""
        processes: int = self.loop.accelerator.num_processes
        return self.micro_batches * self.loop.settings.model.micro_batch_size * processes

    def begin(self, model: Any, first: int) -> Any:
        """Return the function that runs a step, when ``first`` is the number of the first one."""
        batches = self._batches(first)
        return lambda _: self._step(model, batches)

    def _batches(self, first: int) -> Iterator[Batch]:
        """Yield the micro batches from step ``first`` on that Accelerate gives to this process."""
        settings, accelerator = self.loop.settings.model, self.loop.accelerator
        a_step = self.micro_batches * accelerator.num_processes
        last = self.loop.settings.trainer.max_steps
        shuffled = settings.data.dataloader_type == "cyclic"
        blend = blended(self.data.records.sizes, settings.data.concat_sampling_probabilities, last * self.samples)
        count = len(self.data) if blend is None else len(blend)
        order: Any = SampleOrder(
            count, settings.micro_batch_size, settings.seed, first * a_step, last * a_step, shuffled=shuffled
        )
        if blend is not None:
            order = BlendedOrder(order, blend)
        workers = settings.data.num_workers
        loader = DataLoader(self.data, batch_sampler=order, collate_fn=self.collate, num_workers=workers)
        yield from accelerator.prepare_data_loader(loader)

    def _step(self, model: Any, batches: Iterator[Batch]) -> Mapping[str, torch.Tensor]:
        """Run the forward and backward passes of one step; return the loss, the mean over its tokens."""
        accelerator, count = self.loop.accelerator, self.micro_batches
        mine = [next(batches) for _ in range(count)]
        targets = sum((batch["targets"][:, 1:] != IGNORED).sum() for batch in mine)
        tokens = accelerator.reduce(targets, "sum")
        self.unread += int(sum(batch.pop("unread") for batch in mine))
        self.empty = 0 if tokens else self.empty + 1
        if self.empty == min(_EMPTY_STEPS, self.loop.settings.trainer.max_steps):
            detail = f"a step had nothing to learn, like {self.empty - 1} before it: none of its clips could be read"
            raise ConfigurationError(detail, path="model.data")
        total = torch.zeros((), device=accelerator.device)
        for number, batch in enumerate(mine, 1):
            with accelerator.no_sync(model) if number < count else nullcontext():
                with accelerator.autocast():
                    loss = model(batch)
                accelerator.backward(
                    loss * accelerator.num_processes / tokens.clamp(min=1)
                )  # the processes' gradients are averaged
            total += loss.detach()
        return {"loss": accelerator.reduce(total, "sum") / tokens}
