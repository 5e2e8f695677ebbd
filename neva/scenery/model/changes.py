"""A wider model that begins with seeing what changes between frames, and where, as arithmetic has it.

Movement before a still camera is a difference between frames, and its place is the mean of the places of the patches
that differ. Steps of training find neither by themselves, but they can learn to say it where the model begins with
it. The grown model's features get room beside them for

- each patch's place: units of the projector that learn to read it from the tower;
- the differences of a patch's lowest frequencies to the frame before: two more heads of the first layer look at the
  patch itself and at the same patch one frame earlier, and the one is taken from the other;
- how much a patch differs: units of the first layer that add up the sizes of these differences above the noise;
- that, and that times the patch's place: units of the second layer;
- the means over all patches, in the text: a head of the third layer that looks at all alike;
- whether they pass what counts as something, and as a side: units of the third layer.

All else that the model does, it does as before.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from neva.scenery.model.growth import look_back, places_of
from neva.scenery.model.tasks import embedded, features_of
from neva.scenery.model.widening import narrow_norm, place, place_linear, widen

FEATURES, HEADS, UNITS = 24, 2, 32  # how many more of each the wider model has
_DIFFERENCES = UNITS // 2  # each has a unit for more and one for less
_ACROSS, _DOWN, _FIRST, CHANGE, MOMENTS, _MARK = 16, 17, 18, 19, 20, 23  # after the differences
_LOOK = 20.0
_NOISE = 0.15  # a difference that does not count, of a feature's usual size
_PLACE_STEPS, _PLACE_SIZE = 2000, 2.0
_AMOUNTS, _AMOUNT_RAMP = (0.4, 0.6, 0.8, 1.1), 0.07  # how much changes where something begins to move
_ASIDE, _PLACE_RAMP = (0.26, 0.34), 0.03  # half frames from the middle where a side begins
_LEAST_ASIDE = 0.12  # of what changes: less is beside the middle by chance
_SHARPNESS = 50.0  # from here on a unit's output grows evenly


def make_room(old: Any, new: Any, pixels: torch.Tensor) -> None:
    """Give ``new``, which is wider by ``FEATURES``, ``HEADS`` and ``UNITS``, what the grown model ``old`` knows.

    Of the new features it has the places alone, learned on frames of ``float[N, 3, S, S]``.
    """
    with torch.no_grad():
        new.model.vision_tower.load_state_dict(old.model.vision_tower.state_dict())
        _widen_rest(old, new)
    _learn_places(new, pixels)


def begin_changes(llava: Any, ids: torch.Tensor, pixels: torch.Tensor) -> None:
    """Let the new features be what arithmetic says, whatever was made of them.

    ``ids[B, T]`` are prompts with answers and ``pixels[B * F, 3, S, S]`` their frames, which the new weights are
    scaled by. Steps that train all layers would take this apart before they read it, so it comes after them.
    """
    width = llava.config.text_config.hidden_size - FEATURES
    language, new = llava.model.language_model, slice(width, None)
    with torch.no_grad():
        table = language.embed_tokens.weight
        table[:, new] = 0
        table[:, width + _FIRST] = table[:, :width].std()
        hidden, shown = embedded(llava, ids, pixels)
        positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        rotary = language.rotary_emb(hidden, positions)
        usual = hidden[shown].pow(2).mean().sqrt()
        beginnings = (_begin_differences, _begin_moments, _begin_means)
        for layer, begin in zip(language.layers, beginnings, strict=False):
            layer.self_attn.o_proj.weight[new] = 0
            layer.mlp.down_proj.weight[new] = 0
            for norm in (layer.input_layernorm, layer.post_attention_layernorm):
                norm.weight[new] = norm.weight[:width].mean()
            begin(llava, layer, usual, hidden, shown)
            hidden = layer(hidden, attention_mask=None, position_ids=positions, position_embeddings=rotary)


def _widen_rest(old: Any, new: Any) -> None:
    """Let the wider projector and language model do what the old ones do; new features begin as zeros."""
    source, target = old.model.language_model, new.model.language_model
    ratio = (source.config.hidden_size / target.config.hidden_size) ** 0.5
    for linear, before in (
        (new.model.multi_modal_projector.linear_1, old.model.multi_modal_projector.linear_1),
        (new.model.multi_modal_projector.linear_2, old.model.multi_modal_projector.linear_2),
    ):
        linear.weight.zero_()
        place_linear(linear, before)
    for table, rows in ((target.embed_tokens, source.embed_tokens), (new.lm_head, old.lm_head)):
        table.weight.zero_()
        place(table.weight, rows.weight)
    width = source.config.hidden_size
    new.model.multi_modal_projector.linear_2.bias[width + _MARK] = (
        old.model.multi_modal_projector.linear_2.bias.abs().max()
    )
    narrow_norm(target.norm, source.norm, ratio)
    for layer, before in zip(target.layers, source.layers, strict=True):
        narrow_norm(layer.input_layernorm, before.input_layernorm, ratio)
        narrow_norm(layer.post_attention_layernorm, before.post_attention_layernorm, ratio)
        widen(layer.self_attn, before.self_attn, ("q_proj", "k_proj", "v_proj"), "o_proj")
        widen(layer.mlp, before.mlp, ("gate_proj", "up_proj"), "down_proj")


def _learn_places(new: Any, pixels: torch.Tensor) -> None:
    """Let the projector's new units read each patch's place from the tower, which knows it, but not as a feature."""
    projector = new.model.multi_modal_projector
    read: list[torch.Tensor] = []
    with torch.no_grad(), projector.linear_1.register_forward_pre_hook(lambda _, seen: read.append(seen[0])):
        size = features_of(new, pixels).pow(2).mean().sqrt()
        seen = read[0].flatten(0, -2).float()
        known = 2 * places_of(new.config.image_seq_length).repeat(len(seen) // new.config.image_seq_length, 1)
        told = functional.gelu(projector.linear_1(seen))[:, :-FEATURES]
        told_size, usual, spread = told.std(dim=0).clamp(min=1e-3), seen.mean(dim=0), seen.std(dim=0)
        told, normal = told / told_size, (seen - usual) / spread
    units, places = nn.Linear(seen.shape[1], FEATURES), nn.Linear(told.shape[1] + FEATURES, 2)
    optimiser = torch.optim.Adam([*units.parameters(), *places.parameters()])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=_PLACE_STEPS)
    for _ in range(_PLACE_STEPS):
        some = torch.randint(len(seen), (2048,))
        said = places(torch.cat([told[some], functional.gelu(units(normal[some]))], dim=1))
        optimiser.zero_grad()
        functional.mse_loss(said, known[some]).backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        weight = units.weight / spread
        projector.linear_1.weight[-FEATURES:] = weight
        projector.linear_1.bias[-FEATURES:] = units.bias - weight @ usual
        across = projector.linear_2.out_features - FEATURES + _ACROSS
        rows = slice(across, across + 2)
        scale = torch.cat([told_size, torch.ones(FEATURES)])
        projector.linear_2.weight[rows] = _PLACE_SIZE * size * places.weight / scale
        projector.linear_2.bias[rows] = _PLACE_SIZE * size * places.bias


def _begin_differences(new: Any, layer: Any, usual: torch.Tensor, hidden: torch.Tensor, shown: torch.Tensor) -> None:
    """Write the differences of each patch to the frame before, its place and how much it differs."""
    width = hidden.shape[-1] - FEATURES
    attention, head = layer.self_attn, layer.self_attn.head_dim
    first = width // 2  # as growth.py has them
    mark, text = width + _MARK, width + _FIRST
    now, before = width // head, width // head + 1
    read = layer.input_layernorm(hidden)
    for number, back in ((now, 0), (before, new.config.image_seq_length)):
        look_back(attention, number, back, mark, _LOOK / float(read[shown][:, mark].mean()))
    value, out = attention.v_proj.weight, attention.o_proj.weight
    value[now * head : (before + 1) * head] = 0
    for i in range(_DIFFERENCES):
        for number, sign in ((now, 1.0), (before, -1.0)):
            value[number * head + i, first + i] = 1 / layer.input_layernorm.weight[first + i]
            out[width + i, number * head + i] = sign * usual
    value[before * head + _FIRST, text] = (
        1 / read[~shown][:, text].median()
    )  # before the first frame there is text alone
    out[width + _FIRST, before * head + _FIRST] = usual
    _begin_sizes(layer, width, usual, _attended(new, layer, hidden)[shown])


def _begin_sizes(layer: Any, width: int, usual: torch.Tensor, seen: torch.Tensor) -> None:
    """Add up the sizes of the differences above the noise, but for the first frame's."""
    mlp = layer.mlp
    mark = width + _MARK
    units = slice(mlp.gate_proj.out_features - UNITS, None)
    one = usual / _size_of(seen) * layer.post_attention_layernorm.weight[-1]  # a difference of 1, as read
    read = layer.post_attention_layernorm(seen)
    gate, up = mlp.gate_proj.weight[units], mlp.up_proj.weight[units]
    gate.zero_()
    for i in range(_DIFFERENCES):
        gate[2 * i, width + i] = _SHARPNESS / one
        gate[2 * i + 1, width + i] = -_SHARPNESS / one
    gate[:, mark] = -_SHARPNESS * _NOISE / read[:, mark].mean()
    gate[:, width + _FIRST] = -_SHARPNESS * 10 / one
    lengths = seen.pow(2).mean(dim=-1, keepdim=True).sqrt()
    up[:] = _reading(read, lengths / _size_of(seen))
    mlp.down_proj.weight[width + CHANGE, units] = usual / _SHARPNESS


def _begin_moments(new: Any, layer: Any, usual: torch.Tensor, hidden: torch.Tensor, shown: torch.Tensor) -> None:
    """Write how much a patch differs, that times its place across, and times its place down."""
    width, mlp = hidden.shape[-1] - FEATURES, layer.mlp
    seen = _attended(new, layer, hidden)[shown]
    # Each is read from a feature alone. What a token's own size does to them is then the same to all, and no place.
    scale = _size_of(seen) / layer.post_attention_layernorm.weight[-1]
    sizes = {
        CHANGE: usual,
        _MARK: seen[:, width + _MARK].mean(),
        _ACROSS: _PLACE_SIZE * usual,
        _DOWN: _PLACE_SIZE * usual,
    }
    differs, marked, across, down = torch.zeros(4, hidden.shape[-1])
    for row, (feature, size) in zip((differs, marked, across, down), sizes.items(), strict=True):
        row[width + feature] = scale / size
    for i, times in enumerate((marked, across, down)):
        number = mlp.gate_proj.out_features - UNITS + i
        mlp.gate_proj.weight[number] = _SHARPNESS * differs
        mlp.up_proj.weight[number] = times
        mlp.down_proj.weight[width + MOMENTS + i, number] = usual / _SHARPNESS


def _begin_means(new: Any, layer: Any, usual: torch.Tensor, hidden: torch.Tensor, shown: torch.Tensor) -> None:
    """Give every token the means of the four over what is before it, each as large as other features."""
    width = hidden.shape[-1] - FEATURES
    attention, head = layer.self_attn, layer.self_attn.head_dim
    first = attention.q_proj.out_features - HEADS * head
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight[first : first + head] = 0
    value, out = attention.v_proj.weight, attention.o_proj.weight
    features = [width + feature for feature in (CHANGE, MOMENTS, MOMENTS + 1, MOMENTS + 2)]
    value[range(first, first + 4), features] = 1.0  # nothing is exactly nothing here
    out[features, range(first, first + 4)] = 1.0
    added = (_attended(new, layer, hidden) - hidden)[~shown][:, features].pow(2).mean(dim=0).sqrt()
    added[2:] = added[1]  # the places are in proportion to what is at them
    out[features, range(first, first + 4)] = _size_of(hidden[~shown]) / added
    _begin_steps(layer, usual, hidden[shown], _attended(new, layer, hidden)[~shown])


def _begin_steps(layer: Any, usual: torch.Tensor, inside: torch.Tensor, seen: torch.Tensor) -> None:
    """Let the text know of thresholds: whether as much changes, and whether its place is as far from the middle.

    ``inside[N, W]`` are the patches that the means are of, ``seen[N, W]`` the text with the means.
    """
    width, mlp = seen.shape[-1] - FEATURES, layer.mlp
    read = layer.post_attention_layernorm(seen)
    (one,) = _reading(read, torch.ones(len(read), 1))
    scale = _size_of(seen) / layer.post_attention_layernorm.weight[-1]
    amount, mean, across, down = torch.zeros(4, seen.shape[-1])
    for row, feature, among in (
        (amount, CHANGE, CHANGE),
        (mean, MOMENTS, MOMENTS),
        (across, MOMENTS + 1, MOMENTS),
        (down, MOMENTS + 2, MOMENTS),
    ):
        size = seen[:, width + among].mean() / (inside[:, width + among].mean() / usual)
        row[width + feature] = scale / size
    ramps = [((amount - least * one) / _AMOUNT_RAMP) for least in _AMOUNTS]
    ramps += [
        (way - far * mean - _LEAST_ASIDE * one) / _PLACE_RAMP
        for far in _ASIDE
        for way in (across, -across, down, -down)
    ]
    sides = (across - down, down - across, across + down, -across - down)
    ramps += [(way - _LEAST_ASIDE * one) / _PLACE_RAMP for way in sides]
    first = mlp.gate_proj.out_features - UNITS
    for feature, ramp in enumerate(ramps):
        for number, least, sign in ((first + 2 * feature, 0.0, 1.0), (first + 2 * feature + 1, 1.0, -1.0)):
            mlp.gate_proj.weight[number] = _SHARPNESS * (ramp - least * one)
            mlp.up_proj.weight[number] = one
            mlp.down_proj.weight[width + feature, number] = sign * _size_of(seen) / _SHARPNESS


def _reading(read: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Return the weights that read ``float[N, K]`` from the normalised features ``float[N, W]`` best.

    A norm divides each token by its own size, so no single feature is the same in all tokens.
    """
    within = read.T @ read
    within += 1e-5 * within.diagonal().mean() * torch.eye(len(within)).to(within)
    return torch.linalg.solve(within, read.T @ known.to(read)).T


def _size_of(seen: torch.Tensor) -> torch.Tensor:
    """Return the usual size of a feature."""
    return seen.pow(2).mean(dim=-1).sqrt().median()


def _attended(new: Any, layer: Any, hidden: torch.Tensor) -> torch.Tensor:
    language = new.model.language_model
    rotary = language.rotary_emb(hidden, torch.arange(hidden.shape[1], device=hidden.device)[None])
    causal = torch.full((hidden.shape[1],) * 2, -torch.inf, device=hidden.device).triu(1)[None, None]
    added, _ = layer.self_attn(layer.input_layernorm(hidden), position_embeddings=rotary, attention_mask=causal)
    return hidden + added
