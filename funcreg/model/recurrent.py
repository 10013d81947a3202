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
_UNROLL = 'from_module(..., rnn="unrolled") runs it as a loop over time, which vmap and forward-mode take.'


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
    states = _initial(layer, hx, x, batch, single, input if packed else None)
    directions = 2 if layer.bidirectional else 1
    final: list[tuple[Tensor, ...]] = []
    run = layer._funcreg_run
    for depth in range(layer.num_layers):
        if depth and draw is not None:
            x = noise.dropout(x, draw.rate, key=random.skip(draw.key, (depth - 1) * _GAP_STRIDE))
        rows = slice(depth * directions, (depth + 1) * directions)
        x, last = run(layer, x, batch_sizes, tuple(state[rows] for state in states), _weights(layer, depth))
        final.append(last)
    ends = tuple(torch.cat(parts) for parts in zip(*final, strict=True))
    return _as_given(layer, x, ends, input if packed else None, single, time_first)


def use_native(layer: Any) -> None:
    """Run this layer by torch's kernels."""
    layer._funcreg_run = _native


def use_unrolled(layer: Any) -> None:
    """Run this layer as a loop over time."""
    layer._funcreg_run = _unrolled


def _native(layer: Any, x: Tensor, batch_sizes: Any, states: tuple[Tensor, ...], weights: list[Tensor]) -> Any:
    kernel = _KERNELS[layer.mode]
    hidden = states if layer.mode == "LSTM" else states[0]
    # (bias, layers, dropout, train, bidirectional); `train` lets a GPU keep what the gradient needs.
    shared = (layer.bias, 1, 0.0, layer.training, layer.bidirectional)
    try:
        if batch_sizes is None:
            out, *last = kernel(x, hidden, weights, *shared, False)
        else:
            out, *last = kernel(x, batch_sizes, hidden, weights, *shared)
    except RuntimeError as error:
        if "atching rule" in str(error) or "forward AD" in str(error) or "vmap" in str(error):
            _checks.fail("module", f"a {layer.mode} layer under a transform", "a layer with rules for it", _UNROLL)
        raise
    return out, tuple(last)


def _unrolled(layer: Any, x: Tensor, batch_sizes: Any, states: tuple[Tensor, ...], weights: list[Tensor]) -> Any:
    if batch_sizes is not None:
        _checks.fail("input", "a PackedSequence", 'a tensor, since rnn="unrolled"', "Pad it and mask the loss.")
    per_direction = len(weights) // (2 if layer.bidirectional else 1)
    outs, lasts = [], []
    for direction in range(2 if layer.bidirectional else 1):
        own = weights[direction * per_direction : (direction + 1) * per_direction]
        out, last = _scan(layer, x, tuple(state[direction] for state in states), own, reverse=direction == 1)
        outs.append(out)
        lasts.append(last)
    return torch.cat(outs, dim=-1), tuple(torch.stack(parts) for parts in zip(*lasts, strict=True))


def _scan(layer: Any, x: Tensor, state: tuple[Tensor, ...], weights: list[Tensor], reverse: bool) -> Any:
    w_input, w_hidden, *rest = weights
    b_input, b_hidden = rest[:2] if layer.bias else (None, None)
    w_project = rest[-1] if layer.proj_size else None
    cell = _CELLS[layer.mode]
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


def _weights(layer: Any, depth: int) -> list[Tensor]:
    """The weights of one layer, both directions, as torch's kernels order them."""
    rows = layer._all_weights[depth * (2 if layer.bidirectional else 1) :][: 2 if layer.bidirectional else 1]
    return [getattr(layer, name) for names in rows for name in names]


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
    register_layer(_type, recurrent, rate="dropout", prepare=use_native)
