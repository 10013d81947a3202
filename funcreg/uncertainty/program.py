"""A function of many members as two programs: what is the same for all of them, once, and the rest, compiled.

`vmap` computes once what no member changes, but only within a chunk of members; here it is once for
all chunks. The function is recorded as a graph of torch's operators, which is cut in two: operators
that no member reaches, and those that one does.
"""

from collections.abc import Callable
from typing import Any

import optree
import torch
from torch import Tensor, fx

from .. import _checks, _jit
from .replay import Program


def program_of(function: Callable[[Any, Any], Tensor], owner: Any, some: Any, shared: Any) -> Program:
    """`vmap(function, (0, None))(some, shared)` for other members of the same number: leaves of `some` -> results.

    Args:
        function: (member, shared) -> tensor; a pure function of these trees of tensors.
        owner: what the function does, beside its arguments' kind; its programs are kept while it is in use.
        some: members, stacked; with which the program is made.
        shared: what they share, as it will be.

    Raises:
        FuncregError: when what the function does depends on values.
    """
    kept = optree.tree_leaves(shared)

    def make() -> tuple[Callable[..., Any], Callable[..., Tensor]]:
        once, each = _halves(_graph(function, some, shared), len(optree.tree_leaves(some)))
        return once, _jit.jit(each.forward)

    once, each = _jit.remembered(owner, _jit.kind_of((some, shared)), make)
    results = once(*kept)
    return lambda given: each(*given, *results)


def _graph(function: Callable[[Any, Any], Tensor], some: Any, shared: Any) -> fx.GraphModule:
    """The operators of a vmapped function, its inputs the leaves of both trees."""
    # The compiler's modules take longer to import than torch.
    from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

    both: Any = (some, shared)
    given, structure = optree.tree_flatten(both)

    def flat(*leaves: Tensor) -> Tensor:
        return torch.func.vmap(function, (0, None))(*structure.unflatten(leaves))

    try:
        with _jit.recording():
            return make_fx(torch.func.functionalize(flat), tracing_mode="fake")(*given)
    except (DataDependentOutputException, DynamicOutputShapeException, GuardOnDataDependentSymNode) as error:
        allowed = "one that does the same whatever the values, which jit=True needs"
        raise _checks.FuncregError(
            f"model: got one that asks for a tensor's values; expected {allowed}. Call it with jit=False."
        ) from error


def _halves(graph: fx.GraphModule, members: int) -> tuple[fx.GraphModule, fx.GraphModule]:
    """(shared leaves -> what the rest needs of them, (leaves of some members, that) -> results)."""
    *nodes, output = graph.graph.nodes
    inputs = [node for node in nodes if node.op == "placeholder"]
    varies, constant = set(inputs[:members]), set[fx.Node]()
    for node in nodes:
        if node.op != "placeholder":
            if any(source in varies for source in node.all_input_nodes):
                varies.add(node)
            elif all(source in constant for source in node.all_input_nodes):
                constant.add(node)  # cheaper made again than handed over
    used = {source for node in (*varies, output) for source in node.all_input_nodes}
    handed = [node for node in nodes if node in used and node not in varies and node not in constant]

    once, each = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        if node not in varies:
            copies[node] = once.node_copy(node, copies.__getitem__)
    once.output(tuple(copies[node] for node in handed))
    copies = {node: each.placeholder(node.name) for node in (*inputs[:members], *handed)}
    for node in nodes:
        if node in constant or (node in varies and node not in copies):
            copies[node] = each.node_copy(node, copies.__getitem__)
    each.output(copies[output.args[0]])
    for half in (once, each):
        half.eliminate_dead_code()
    return fx.GraphModule(graph, once), fx.GraphModule(graph, each)
