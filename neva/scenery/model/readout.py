"""The last stages of training: the last layer learns to say what else moves, then colours, and nothing else anew.

What the layers before it know of movement is arithmetic, which longer training of all layers takes apart before the
words for it are learned. Here only the last layer's units and the words are trained. What they read is the same in all
steps, so it is computed once.

Where little changes, and most real films are seen by a camera that stands still, the arithmetic alone is to be read:
the older features guess by what a scene looks like, which is another thing in films than in drawn clips. So there they
are often taken from another clip whose sentence is the same so far.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from neva.scenery.model.changes import CHANGE, FEATURES
from neva.scenery.model.tasks import SceneBatch, embedded

MOVEMENT, COLOURS = "movement", "colours"  # what is learned, one after the other
_TOPICS = ("the rest", MOVEMENT, COLOURS)
_OF_TOPIC, _OF_LITTLE, _OF_THE_REST = {MOVEMENT: 1248, COLOURS: 2048}, 800, 1024  # words a step
_KEPT = 0.3  # of the words about the rest: there are more of them
_LITTLE = 0.25  # of the usual change
_OTHERS = 0.8  # of the words where little changes read the older features of another clip
_DRIFT = 4.0  # the weight of what is said otherwise of the rest


@dataclass(frozen=True, slots=True)
class States:
    """What the last layer's units read, ``float16[N, W]``, and the words that follow.

    ``topic`` says what each is about, ``context`` is a number for what the sentence says before it of the camera and of
    movement, and ``little`` says where little changes.
    """

    read: torch.Tensor
    words: torch.Tensor
    topic: torch.Tensor
    context: torch.Tensor
    little: torch.Tensor

    def about(self, topic: str) -> torch.Tensor:
        """Say which are about a topic, ``bool[N]``."""
        return self.topic == _TOPICS.index(topic)

    def some(self, step: int, topic: str) -> "States":
        """Return those of one step that learns a topic."""
        generator = torch.Generator().manual_seed(step)
        learned = self.about(topic)
        groups = [(learned, _OF_TOPIC[topic]), (~learned, _OF_THE_REST)]
        if topic == MOVEMENT:
            groups.insert(1, (learned & self.little, _OF_LITTLE))
        chosen = []
        for among, count in groups:
            places = among.nonzero()[:, 0].cpu()
            if len(places):
                chosen.append(places[torch.randint(len(places), (count,), generator=generator)])
        picked = torch.cat(chosen).to(self.read.device)
        some = States(*(getattr(self, name)[picked] for name in self.__slots__))
        if topic == MOVEMENT:
            some._mix(generator)
        return some

    def _mix(self, generator: torch.Generator) -> None:
        """Take older features from another clip in the same context, for some words where little changes."""
        mixed = (self.about(MOVEMENT) & self.little).cpu() & (
            torch.rand(len(self.words), generator=generator) < _OTHERS
        )
        places = mixed.nonzero()[:, 0]
        places = places[torch.randperm(len(places), generator=generator)]
        context = self.context.cpu()[places]
        places = places[context.argsort(stable=True)]
        context = self.context.cpu()[places]
        alike = context[1:] == context[:-1]
        to, of = places[1:][alike], places[:-1][alike]
        self.read[to, :-FEATURES] = self.read[of, :-FEATURES].clone()


def gather_states(llava: Any, tokenizer: Any, batch: Callable[[int], SceneBatch], count: int) -> States:
    """Return the states of ``count`` batches.

    A sentence's third part, after the second semicolon, is of movement. Colours stand behind ", mostly", up to the
    first semicolon, which says that there are no more.
    """
    language = llava.model.language_model
    *others, last = language.layers
    texts = [tokenizer.decode([token]) for token in range(llava.lm_head.out_features)]
    parts, commas = (torch.tensor([mark in text for text in texts]) for mark in ";,")
    mostly = len(tokenizer.encode(" mostly", add_special_tokens=False))
    found: list[tuple[torch.Tensor, ...]] = []
    with torch.no_grad():
        for number in range(count):
            one = batch(number)
            hidden, _ = embedded(llava, one.ids, one.pixels)
            rotary = language.rotary_emb(hidden, torch.arange(hidden.shape[1], device=hidden.device)[None])
            for layer in others:
                hidden = layer(hidden, attention_mask=None, position_embeddings=rotary)
            added, _ = last.self_attn(last.input_layernorm(hidden), position_embeddings=rotary, attention_mask=None)
            words = one.targets[:, 1:]
            answered = words != -100
            ends = parts.to(words.device)[words.clamp(min=0)] & answered
            begun = ends.cumsum(dim=1)
            named = (commas.to(words.device)[words.clamp(min=0)] & answered).cumsum(dim=1).cumsum(dim=1) > 1 + mostly
            topic = torch.zeros_like(words)
            topic[answered & (begun > 1)] = _TOPICS.index(MOVEMENT)
            topic[answered & named & (begun == ends)] = _TOPICS.index(COLOURS)  # up to the first end, and that
            generator = torch.Generator().manual_seed(number)
            some = torch.rand(words.shape, generator=generator).to(words.device) < _KEPT
            kept = answered & ((topic > 0) | some)
            context = _contexts(words, begun > 0)
            found.append(((hidden + added)[:, :-1][kept].half(), words[kept], topic[kept], context[kept]))
    read, words, topic, context = (torch.cat(rows) for rows in zip(*found, strict=True))
    change = read[:, CHANGE - FEATURES].float()
    return States(read, words, topic, context, change < _LITTLE * change.pow(2).mean().sqrt())


def _contexts(words: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return a number for the words ``int64[B, T]`` that count before each."""
    before = torch.zeros_like(words)
    for at in range(1, words.shape[1]):
        more = (before[:, at - 1] * 1_009 + words[:, at - 1] + 1) % 2_147_483_647
        before[:, at] = torch.where(counts[:, at - 1], more, 0)
    return before


class Readout(nn.Module):  # type: ignore[misc]
    """What makes words of what the other layers know, beside itself as it was; it learns a topic."""

    def __init__(self, llava: Any, topic: str) -> None:
        super().__init__()
        self.topic = topic
        language = llava.model.language_model
        last = language.layers[-1]
        llava.requires_grad_(False)
        self.now = nn.ModuleList([last.post_attention_layernorm, last.mlp, language.norm, llava.lm_head])
        self.before = copy.deepcopy(self.now)
        self.now.requires_grad_(True)

    def go_back_half_way(self) -> None:
        """Take the mean of the weights as they are and as they were.

        That keeps what was gained on drawn clips, and more of what was right on what training does not draw, such as
        real films (Wortsman et al., "Robust fine-tuning of zero-shot models").
        """
        with torch.no_grad():
            for now, before in zip(self.now.parameters(), self.before.parameters(), strict=True):
                now.lerp_(before, 0.5)

    def forward(self, states: States) -> dict[str, torch.Tensor]:
        """Return the losses: of the words about the topic, and of what is said otherwise of the rest."""
        with torch.autocast(states.read.device.type, enabled=False):
            read, learned = states.read.float(), states.about(self.topic)
            said = _words(self.now, read)
            wrong = functional.cross_entropy(said[learned], states.words[learned])
            with torch.no_grad():
                before = _words(self.before, read[~learned]).log_softmax(-1)
            now = said[~learned].log_softmax(-1)
            drift = functional.kl_div(now, before, log_target=True, reduction="batchmean")
            return {"loss": wrong + _DRIFT * drift, self.topic: wrong, "drift": drift}


def _words(parts: nn.ModuleList, read: torch.Tensor) -> torch.Tensor:
    norm, units, last_norm, words = parts
    return words(last_norm(read + units(norm(read))))
