"""A wider and deeper model that begins with what the model of shapes knows.

The grown model's features have room beside the old ones. The old weights are where they were and see the old features
alone. The new room begins with what movement is read from: the low spatial frequencies of every patch and its place in
the frame, which pass through the tower and the projector unchanged, and in the language model a new first layer whose
heads look at the same patch one frame earlier, and at its neighbours there.
"""

from typing import Any

import numpy as np
import torch

from neva.scenery.model.widening import narrow_norm, place, place_linear, widen

_FAINT = 0.1  # the new features of the tower against the old ones: its norms hardly notice them
_LOOK = 9.0  # makes a head look at one token
_SHARPNESS = (2.0, 2.0, 1.0, 1.0, 1.0)  # of the fastest rotations; slow ones tell no token from its neighbours
_ELSEWHERE = 6.4  # taken off: the score is above 0 at the one token alone, however strong the marks of its neighbours
_MARK = 1.0  # the feature that all patches have and no text has, against the old features


def grow(old: Any, new: Any, pixels: torch.Tensor) -> None:
    """Give ``new``, a wider model with one more layer, what ``old`` knows.

    ``pixels[N * F, 3, S, S]`` are frames that its new weights are scaled by. The language model's new features are as
    strong as the old ones, so that its norms divide a patch's contrast out: without that movement can't be learned. The
    old answers are lost with it, and are to be learned again.
    """
    with torch.no_grad():
        _grow_tower(old.model.vision_tower, new.model.vision_tower)
        width = old.model.vision_tower.config.hidden_size
        mark_places(new.model.vision_tower, width + _passed(old, new) - 2)
        _grow_projector(old, new, pixels)
        _grow_language(old, new, pixels)


def frequencies(side: int, count: int) -> torch.Tensor:
    """Return filters ``float[count, 3, side, side]``: mean colours, slopes of colour, low frequencies of luma."""
    k = np.arange(side)
    basis = np.cos(np.pi / side * (k[None] + 0.5) * k[:, None])
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    luma, red, blue = np.array([0.3, 0.59, 0.11]), np.array([0.7, -0.59, -0.11]), np.array([-0.3, -0.59, 0.89])
    found = [np.outer(one, np.outer(basis[0], basis[0])).reshape(3, side, side) / 10 for one in np.eye(3)]
    for chroma in (red, blue):
        for u, v in ((0, 1), (1, 0), (1, 1)):
            found.append(chroma[:, None, None] * np.outer(basis[u], basis[v]) / 1.5)
    waves = sorted(((np.hypot(u, v), u, v) for u in range(side) for v in range(side) if u + v), key=lambda wave: wave)
    for length, u, v in waves[: count - len(found)]:
        found.append(luma[:, None, None] * np.outer(basis[u], basis[v]) * length**1.1 / 3)
    return torch.tensor(np.stack(found), dtype=torch.float32)


def places_of(patches: int) -> torch.Tensor:
    """Return the centres of a frame's patches, ``float[P, 2]``: across and down, from -0.5 to 0.5."""
    row = round(patches**0.5)
    middles = (torch.arange(row) + 0.5) / row - 0.5
    return torch.stack([middles.repeat(row), middles.repeat_interleave(row)], dim=-1)


def mark_places(tower: Any, at: int) -> None:
    """Let two of the tower's features, from ``at`` on, say where a patch is instead of what it shows."""
    embeddings = getattr(tower, "vision_model", tower).embeddings
    places = embeddings.position_embedding.weight  # of the class token, then of the patches
    embeddings.patch_embedding.weight[at : at + 2] = 0
    places[:, at : at + 2] = 0
    places[1:, at : at + 2] = _FAINT * places_of(len(places) - 1)


def _grow_tower(old: Any, new: Any) -> None:
    old, new = getattr(old, "vision_model", old), getattr(new, "vision_model", new)
    width, wide = old.config.hidden_size, new.config.hidden_size
    ratio = (width / wide) ** 0.5
    for name in ("class_embedding", "position_embedding.weight", "patch_embedding.weight"):
        target, source = new.embeddings.get_parameter(name), old.embeddings.get_parameter(name)
        target.zero_()
        centred = source - source.mean(dim=1 if "position" in name else 0, keepdim=True)
        target[tuple(slice(n) for n in source.shape)] = centred
    filters = new.embeddings.patch_embedding.weight
    filters[width:] = _FAINT * frequencies(filters.shape[-1], wide - width)
    narrow_norm(new.pre_layrnorm, old.pre_layrnorm, ratio)
    for target, source in zip(new.encoder.layers, old.encoder.layers, strict=True):
        for name in ("layer_norm1", "layer_norm2"):
            narrow_norm(getattr(target, name), getattr(source, name), ratio)
        widen(target.self_attn, source.self_attn, ("q_proj", "k_proj", "v_proj"), "out_proj")
        widen(target.mlp, source.mlp, ("fc1",), "fc2")


def _seen(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    layer = model.config.vision_feature_layer
    return model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[layer][:, 1:]


def _passed(old: Any, new: Any) -> int:
    """Return how many of the tower's new features pass through the projector."""
    source, target = old.model.multi_modal_projector, new.model.multi_modal_projector
    return int((target.linear_2.out_features - source.linear_2.out_features) // 2 - 2)


def _grow_projector(old: Any, new: Any, pixels: torch.Tensor) -> None:
    """Let the new features pass: two units for each, since gelu(x) - gelu(-x) is x."""
    source, target = old.model.multi_modal_projector, new.model.multi_modal_projector
    narrow = source.linear_2.out_features
    first, seen = source.linear_1.in_features, _seen(new, pixels)
    passed = _passed(old, new)
    sizes = seen[..., first : first + passed].flatten(0, -2).std(dim=0)
    spread = source(_seen(old, pixels)).std()
    for linear in (target.linear_1, target.linear_2):
        linear.weight.zero_()
        linear.bias.zero_()
    place_linear(target.linear_1, source.linear_1)
    place_linear(target.linear_2, source.linear_2)
    for i in range(passed):
        unit = narrow + 2 * i
        target.linear_1.weight[unit, first + i] = 1 / sizes[i]
        target.linear_1.weight[unit + 1, first + i] = -1 / sizes[i]
        target.linear_2.weight[narrow + i, unit] = spread
        target.linear_2.weight[narrow + i, unit + 1] = -spread
    target.linear_2.bias[narrow + passed + 1] = _MARK * spread


def _grow_language(old: Any, new: Any, pixels: torch.Tensor) -> None:
    source, target = old.model.language_model, new.model.language_model
    narrow, wide = source.config.hidden_size, target.config.hidden_size
    seen = new.model.multi_modal_projector(_seen(new, pixels))
    size = seen.pow(2).mean().sqrt()
    ratio = float(size / seen[..., :narrow].pow(2).mean().sqrt())  # of the frames; a text's is a little smaller
    place(target.embed_tokens.weight, source.embed_tokens.weight)
    target.embed_tokens.weight[:, narrow:] = 0
    target.embed_tokens.weight[:, narrow + _passed(old, new)] = source.embed_tokens.weight.std()
    narrow_norm(target.norm, source.norm, (narrow / wide) ** 0.5)
    new.lm_head.weight.zero_()
    place(new.lm_head.weight, old.lm_head.weight)
    for layer, before in zip(target.layers[1:], source.layers, strict=True):
        narrow_norm(layer.input_layernorm, before.input_layernorm, ratio)
        narrow_norm(layer.post_attention_layernorm, before.post_attention_layernorm, ratio)
        widen(layer.self_attn, before.self_attn, ("q_proj", "k_proj", "v_proj"), "o_proj")
        widen(layer.mlp, before.mlp, ("gate_proj", "up_proj"), "down_proj")
    mark = seen[..., narrow + _passed(old, new) + 1].mean()
    _begin_matching(target.layers[0], narrow, new.config, size, mark)


def look_back(attention: Any, number: int, back: int, mark: int, strength: float) -> None:
    """Make head ``number`` look at the token ``back`` tokens ago, where ``mark`` is a feature that both have."""
    head = attention.head_dim
    theta = attention.config.rope_parameters["rope_theta"] ** (-torch.arange(head // 2) / (head // 2))
    sharp = torch.zeros(head // 2)
    sharp[: len(_SHARPNESS)] = torch.tensor(_SHARPNESS)
    sharp[-2] = -_ELSEWHERE  # a rotation so slow that it is the same everywhere
    rows = slice(number * head, (number + 1) * head)
    angle = -back * theta
    for projection, phase, size_of in ((attention.q_proj, angle, sharp), (attention.k_proj, 0 * angle, sharp != 0)):
        projection.weight[rows] = 0
        projection.weight[rows, mark] = strength * torch.cat([size_of * phase.cos(), size_of * phase.sin()])


def _begin_matching(layer: Any, narrow: int, config: Any, size: torch.Tensor, mark: torch.Tensor) -> None:
    """Begin the new first layer: its heads look one frame back, at the same patch (two heads) and at its neighbours."""
    attention, text = layer.self_attn, config.text_config
    head = text.head_dim
    patches = config.image_seq_length
    row = round(patches**0.5)
    half = (text.hidden_size - narrow) // 2
    strength = _LOOK * float(size / mark)
    new_rows = slice(narrow, narrow + half)
    torch.nn.init.normal_(attention.o_proj.weight, std=0.01)
    attention.o_proj.weight[:narrow] = 0
    for number, back in enumerate((0, 0, 1, -1, row, -row)):
        rows = slice(number * head, (number + 1) * head)
        look_back(attention, number, patches + back, narrow + half - 1, strength)
        attention.v_proj.weight[rows] = 0
        from_feature = narrow + (number * head if number < 2 else 0)
        attention.v_proj.weight[rows, from_feature : from_feature + head] = torch.eye(head)
        attention.v_proj.weight[rows, narrow + half - 2] = 0
        for projection in (attention.q_proj, attention.k_proj):  # text looks at text, where it finds nothing
            projection.weight[number * head + head // 2 - 1, narrow + half - 2] = 1.0
    back_rows = slice(narrow + half, narrow + 2 * half)
    attention.o_proj.weight[back_rows] *= 0.1
    attention.o_proj.weight[back_rows, : 2 * head] = size * torch.eye(2 * head)[:half]
    attention.o_proj.weight[new_rows, 2 * head : 6 * head] *= float(size)
    attention.o_proj.weight[:, 6 * head :] *= 0.1
    for projection in (layer.mlp.gate_proj, layer.mlp.up_proj):
        torch.nn.init.normal_(projection.weight, std=0.09)
        projection.weight[:, :narrow] = 0
    torch.nn.init.normal_(layer.mlp.down_proj.weight, std=0.02)
    layer.mlp.down_proj.weight[:narrow] = 0
