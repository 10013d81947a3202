"""RNN, LSTM and GRU with keyed dropout between their layers.

Without dropout the layer is torch's own. With it, torch's own one layer at a time, and keyed
noise between, so that only the masks differ. torch's kernels have no vmap rule; `from_module(...,
rnn="unrolled")` takes a loop over time in their place, slower but under every transform.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .. import _checks, noise, random
from .registry import Draw, register_layer

_KERNELS: dict[str, Any] = {
    "LSTM": torch._VF.lstm,  # type: ignore[attr-defined]
    "GRU": torch._VF.gru,  # type: ignore[attr-defined]
    "RNN_TANH": torch._VF.rnn_tanh,  # type: ignore[attr-defined]
    "RNN_RELU": torch._VF.rnn_relu,  # type: ignore[attr-defined]
}
_GAP_STRIDE = 2**28  # draws between two gaps on one key: more than one gap can make


def recurrent(layer: Any, draw: Draw | None, input: Any, hx: Any = None) -> Any:
    """The forward of an RNN, LSTM or GRU: as torch's, with the dropout of `draw` between layers."""
    packed = isinstance(input, PackedSequence)
    x, batch_sizes = (input.data, input.batch_sizes) if packed else (input, None)
    single = not packed and x.ndim == 2
    time_first = packed or single or not layer.batch_first
    if single:
        x = x.unsqueeze(1)
    elif not time_first:
        x = x.transpose(0, 1)
    batch = int(batch_sizes[0]) if batch_sizes is not None else x.shape[1]
    x, ends = recurrence(
        layer.mode,
        x,
        batch_sizes,
        _initial(layer, hx, x, batch, single, input if packed else None),
        flat_weights(layer),
        layers=layer.num_layers,
        directions=2 if layer.bidirectional else 1,
        draw=draw,
        bias=layer.bias,
        train=layer.training,
        unrolled=layer._funcreg_unrolled,
    )
    return _as_given(layer, x, ends, input if packed else None, single, time_first)


def recurrence(
    mode: str,
    x: Tensor,
    batch_sizes: Tensor | None,
    states: tuple[Tensor, ...],
    weights: list[Tensor],
    *,
    layers: int,
    directions: int,
    draw: Draw | None,
    bias: bool,
    train: bool,
    unrolled: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """torch's recurrent kernel one layer at a time, with the dropout of `draw` between.

    Args:
        mode: "LSTM", "GRU", "RNN_TANH" or "RNN_RELU".
        x: (time, batch, features), or with batch_sizes the data of a packed sequence.
        states: the initial ones, (layers * directions, batch, features) each; an LSTM has two.
        weights: of all layers, as torch's kernels order them.
        train: lets a GPU keep what the gradient needs.
        unrolled: as a loop over time rather than by torch's kernels.

    Returns:
        The output of the last layer, and the last states.

    >>> layer = nn.GRU(2, 3, num_layers=2)
    >>> x, start = torch.ones(4, 1, 2), (torch.zeros(2, 1, 3),)
    >>> settings = {"layers": 2, "directions": 1, "draw": None, "bias": True, "train": False, "unrolled": True}
    >>> y, _ = recurrence("GRU", x, None, start, layer._flat_weights, **settings)
    >>> torch.allclose(y, layer(x)[0], atol=1e-6)
    True
    """
    final: list[tuple[Tensor, ...]] = []
    per_layer = len(weights) // layers
    settings = {"directions": directions, "bias": bias, "train": train}
    for depth in range(layers):
        if depth and draw is not None:
            x = noise.dropout(x, draw.rate, key=random.skip(draw.key, (depth - 1) * _GAP_STRIDE))
        rows = slice(depth * directions, (depth + 1) * directions)
        own = weights[depth * per_layer : (depth + 1) * per_layer]
        run = _unrolled if unrolled else _native
        x, last = run(mode, x, batch_sizes, tuple(state[rows] for state in states), own, **settings)
        final.append(last)
    return x, tuple(torch.cat(parts) for parts in zip(*final, strict=True))


def flat_weights(layer: Any) -> list[Tensor]:
    """The weights of a recurrent layer by name, in the order of torch's kernels."""
    return [getattr(layer, name) for names in layer._all_weights for name in names]


def read_by_name(layer: nn.RNNBase) -> None:
    """Let the forward of a subclass, which runs on its list of weights, find those that it was lent."""
    own = type(layer)
    members = {"_flat_weights": property(flat_weights, lambda *_: None), "__module__": own.__module__}
    layer.__class__ = type(own.__name__, (own,), members)


def prepare(layer: Any, *, unrolled: bool = False) -> None:
    """Say how this layer runs."""
    layer._funcreg_unrolled = unrolled


def _native(
    mode: str,
    x: Tensor,
    batch_sizes: Any,
    states: tuple[Tensor, ...],
    weights: list[Tensor],
    *,
    directions: int,
    bias: bool,
    train: bool,
) -> Any:
    kernel = _KERNELS[mode]
    hidden = states if mode == "LSTM" else states[0]
    shared = (bias, 1, 0.0, train, directions == 2)  # one layer, no dropout
    if batch_sizes is None:
        out, *last = kernel(x, hidden, weights, *shared, False)
    else:
        out, *last = kernel(x, batch_sizes, hidden, weights, *shared)
    return out, tuple(last)


def _unrolled(
    mode: str,
    x: Tensor,
    batch_sizes: Any,
    states: tuple[Tensor, ...],
    weights: list[Tensor],
    *,
    directions: int,
    bias: bool,
    train: bool,
) -> Any:
    if batch_sizes is not None:
        _checks.fail("input", "a PackedSequence", 'a tensor, since rnn="unrolled"', "Pad it and mask the loss.")
    per_direction = len(weights) // directions
    outs, lasts = [], []
    for direction in range(directions):
        own = weights[direction * per_direction : (direction + 1) * per_direction]
        start = tuple(state[direction] for state in states)
        out, last = _scan(mode, bias, x, start, own, reverse=direction == 1)
        outs.append(out)
        lasts.append(last)
    return torch.cat(outs, dim=-1), tuple(torch.stack(parts) for parts in zip(*lasts, strict=True))


def _scan(
    mode: str, bias: bool, x: Tensor, state: tuple[Tensor, ...], weights: list[Tensor], reverse: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    w_input, w_hidden, *rest = weights
    b_input, b_hidden = rest[:2] if bias else (None, None)
    w_project = rest[-1] if len(rest) % 2 else None  # an LSTM's with proj_size
    cell = _CELLS[mode]
    inputs = torch.nn.functional.linear(x, w_input, b_input)
    outs = []
    for step in range(x.shape[0])[:: -1 if reverse else 1]:
        hidden = torch.nn.functional.linear(state[0], w_hidden, b_hidden)
        state = cell(inputs[step], hidden, state)
        if w_project is not None:
            state = (state[0] @ w_project.mT, *state[1:])
        outs.append(state[0])
    return torch.stack(outs[::-1] if reverse else outs), state


def _lstm_cell(inputs: Tensor, hidden: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    i, f, g, o = (inputs + hidden).chunk(4, dim=-1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru_cell(inputs: Tensor, hidden: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    input_r, input_z, input_n = inputs.chunk(3, dim=-1)
    hidden_r, hidden_z, hidden_n = hidden.chunk(3, dim=-1)
    n = torch.tanh(input_n + torch.sigmoid(input_r + hidden_r) * hidden_n)
    z = torch.sigmoid(input_z + hidden_z)
    return ((1 - z) * n + z * state[0],)


_CELLS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "LSTM": _lstm_cell,
    "GRU": _gru_cell,
    "RNN_TANH": lambda inputs, hidden, state: (torch.tanh(inputs + hidden),),
    "RNN_RELU": lambda inputs, hidden, state: (torch.relu(inputs + hidden),),
}


def _initial(layer: Any, hx: Any, x: Tensor, batch: int, single: bool, packed: Any) -> tuple[Tensor, ...]:
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    if hx is None:
        hidden = x.new_zeros(rows, batch, layer.proj_size or layer.hidden_size)
        return (hidden, x.new_zeros(rows, batch, layer.hidden_size)) if layer.mode == "LSTM" else (hidden,)
    states = tuple(hx) if layer.mode == "LSTM" else (hx,)
    if single:
        return tuple(state.unsqueeze(1) for state in states)
    if packed is not None and packed.sorted_indices is not None:
        return tuple(state.index_select(1, packed.sorted_indices) for state in states)
    return states


def _as_given(layer: Any, x: Tensor, ends: tuple[Tensor, ...], packed: Any, single: bool, time_first: bool) -> Any:
    """Outputs in the layout of the input, as torch returns them."""
    out: Any = x
    if packed is not None:
        out = PackedSequence(x, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        if packed.unsorted_indices is not None:
            ends = tuple(end.index_select(1, packed.unsorted_indices) for end in ends)
    elif single:
        out, ends = x.squeeze(1), tuple(end.squeeze(1) for end in ends)
    elif not time_first:
        out = x.transpose(0, 1)
    return out, (ends if layer.mode == "LSTM" else ends[0])


for _type in (nn.RNN, nn.LSTM, nn.GRU):
    register_layer(_type, recurrent, rate="dropout", prepare=prepare)
