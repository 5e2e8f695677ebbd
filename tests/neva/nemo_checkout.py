"""NeMo's own modules out of a checkout, without NeMo's dependencies.

The modules of :data:`OWN` are run from the checkout's files. Whatever else they import of NeMo, of Megatron, Lightning
and the like is a stand-in: a module that has every name, each a class that takes everything and does nothing.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OWN = (
    "nemo.collections.common.tokenizers.sentencepiece_tokenizer",
    "nemo.collections.multimodal.data.neva.conversation",
    "nemo.collections.multimodal.data.neva.neva_dataset",
    "nemo.collections.nlp.modules.common.text_generation_strategy",
    "nemo.collections.nlp.modules.common.text_generation_utils",
    "nemo.core.optim.lr_scheduler",
)
SCRIPT = "examples/multimodal/multimodal_llm/neva/neva_evaluation.py"
_STOOD_IN = ("nemo", "megatron", "apex", "lightning", "lightning_fabric", "pytorch_lightning", "omegaconf", "hydra")
_STOOD_IN += ("modelopt", "ammo", "wandb", "transformer_engine")


class _Anything:
    """A class of a stand-in: as a function it takes everything, and as a decorator it changes nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, given: Any = None, *_: Any, **__: Any) -> Any:
        return given

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything()


class _StandIn(types.ModuleType):
    """A module that has every name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (_Anything,), {})
        setattr(self, name, made)
        return made


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of :data:`OWN` in the checkout, and stand-ins for the rest of what NeMo needs."""

    def __init__(self, checkout: Path) -> None:
        self._checkout = checkout

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if fullname in OWN:
            file = self._checkout / (fullname.replace(".", "/") + ".py")
            return importlib.util.spec_from_file_location(fullname, file) if file.is_file() else None
        if fullname.partition(".")[0] in _STOOD_IN:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


@dataclass(frozen=True)
class Nemo:
    """The modules of one checkout. ``is_first`` tells NeVA's first generation, which turned a video's colours round."""

    dataset: Any
    conversation: Any
    strategy: Any
    generation: Any
    schedules: Any
    tokenizer: Any
    evaluation: Any

    @property
    def is_first(self) -> bool:
        """Whether this is NeVA's first generation."""
        return not hasattr(self.evaluation, "TemporalNevaDataset")


@contextmanager
def opened(checkout: Path) -> Iterator[Nemo]:
    """Yield the modules of a checkout; afterwards no module of NeMo and no stand-in is left."""
    import torch

    finder, before = _Finder(checkout), set(sys.modules)
    with_cuda, device = torch.cuda.is_available, torch.cuda.current_device
    sys.meta_path.insert(0, finder)
    torch.cuda.is_available, torch.cuda.current_device = (lambda: True), (lambda: 0)
    try:
        tokenizer, conversation, dataset, strategy, generation, schedules = map(importlib.import_module, OWN)
        spec = importlib.util.spec_from_file_location("nemo_evaluation", checkout / SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        evaluation = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(evaluation)
        yield Nemo(dataset, conversation, strategy, generation, schedules, tokenizer, evaluation)
    finally:
        sys.meta_path.remove(finder)
        torch.cuda.is_available, torch.cuda.current_device = with_cuda, device
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in _STOOD_IN:
                del sys.modules[name]
