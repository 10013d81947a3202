"""Tables: a row for each member of a sweep, or for each of its settings over seeds."""

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from torch import Tensor

from .. import _checks
from ..tree.stacking import members_of
from ..tree.structure import entry


class Table(NamedTuple):
    """One row a member: {"member": index, a hyperparameter: its value, ..., a metric: its value, ...}.

    `rows` are in the order of the members, and their columns in that of the grid; `settings` are the columns
    that are hyperparameters. `str(table)` is a text table, `pandas.DataFrame(table.rows)` a data frame.
    """

    rows: tuple[dict[str, Any], ...]
    settings: tuple[str, ...] = ()

    def sort(self, by: str, mode: str = "min") -> "Table":
        """The rows by a column: the lowest first, or the highest for "max". What is NaN comes last."""
        _checks.check_choice("by", by, list(self.rows[0]))
        _checks.check_choice("mode", mode, ("min", "max"))
        numbers = [row for row in self.rows if not _is_nan(row[by])]
        mixed = len({isinstance(row[by], str) for row in numbers}) > 1
        ordered = sorted(numbers, key=lambda row: str(row[by]) if mixed else row[by], reverse=mode == "max")
        return self._replace(rows=(*ordered, *(row for row in self.rows if _is_nan(row[by]))))

    def over(self, by: str = "seed") -> "Table":
        """One row for all members that differ in one setting only, their seed.

        Its columns are the other settings, `n`, the number of members, and for each metric its mean and its
        standard deviation (that of a sample, n - 1; NaN for one), as `loss` and `loss sd`. A member that
        diverged makes them NaN. Rows are in the order in which the settings come first.
        """
        _checks.check_choice("by", by, self.settings)
        others = tuple(name for name in self.settings if name != by)
        metrics = [name for name in self.rows[0] if name not in (*self.settings, "member")]
        columns = [*others, "n", *metrics, *(f"{name} sd" for name in metrics)]
        if len(set(columns)) < len(columns):
            _checks.fail("table", f"the columns {', '.join(columns)}", "names that differ", "Rename one.")
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in self.rows:
            groups.setdefault(tuple(row[name] for name in others), []).append(row)
        return Table(tuple(_summary(others, metrics, rows) for rows in groups.values()), others)

    def write_csv(self, path: str | Path) -> None:
        """Write the rows to a file of comma-separated values, numbers with all their digits."""
        with _checks.check_path("path", path, writes=True).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)

    def __str__(self) -> str:
        lines = [list(self.rows[0]), *([_shown(value) for value in row.values()] for row in self.rows)]
        widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
        )


def table(hparams: Any, metrics: dict[str, Tensor]) -> Table:
    """Each member's hyperparameters and metrics, side by side, in the order of both.

    Args:
        hparams: a tree of tensors (K,), named by their paths; None for none.
        metrics: name -> tensor (K,): those of `at_best(result)`, or your own.

    Returns:
        A Table of K rows: `sort` it, take means `over` seeds, `write_csv` it.

    Raises:
        FuncregError: for a column that is not (K,), or a name that is in both.

    >>> import torch
    >>> runs = table({"rate": torch.tensor([0.0, 0.5])}, {"loss": torch.tensor([0.25, 0.125])})
    >>> print(runs.sort("loss"))
    member  rate   loss
         1   0.5  0.125
         0     0   0.25
    >>> hparams = {"rate": torch.tensor([0.0, 0.0, 0.5, 0.5]), "seed": torch.tensor([0, 1, 0, 1])}
    >>> print(table(hparams, {"loss": torch.tensor([0.25, 0.75, 1.0, 3.0])}).over("seed"))
    rate  n  loss  loss sd
       0  2   0.5   0.3536
     0.5  2     2    1.414
    """
    if not isinstance(metrics, Mapping) or not all(isinstance(name, str) for name in metrics):
        _checks.fail("metrics", _checks.describe(metrics), "a dict name -> tensor (K,)")
    settings = {name or "hparams": column for name, column in _named(hparams)}
    for name in settings:
        if name in metrics:
            _checks.fail("metrics", f"{name!r}, as the hyperparameters have", "names of their own", "Rename it.")
    columns = settings | metrics
    if "member" in columns:
        _checks.fail("hparams or metrics", "the name 'member'", "another: it is the number's of a member", "Rename it.")
    members = members_of("metrics", metrics) if metrics else members_of("hparams", settings)
    if settings and (own := members_of("hparams", settings)) != members:
        _checks.fail("metrics", f"those of {members} members", f"those of {own}, as hparams")
    for name, column in columns.items():
        where = entry("metrics" if name in metrics else "hparams", name)
        if column.ndim != 1:
            remedy = "Of a history take each member's best epoch: fr.sweep.at_best(result)."
            _checks.fail(where, _checks.describe(column), f"a tensor of shape ({members},)", remedy)
        if column.is_meta or column.is_complex():
            got = "one on meta" if column.is_meta else _checks.describe(column)
            _checks.fail(where, got, "a tensor of real numbers, with values")
    values = {"member": range(members)} | {name: column.tolist() for name, column in columns.items()}
    return Table(tuple(dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)), (*settings,))


def each(run: Callable[..., Table], /, **axes: Iterable[Any] | Mapping[str, Any]) -> Table:
    """One table of a sweep for every combination of choices that are not numbers: an activation, an architecture.

    What a tensor holds is an axis of `grid`, and all of it one program; what it does not is another program, and
    each has its own members:

        def run(activation):
            model = fr.from_module(lambda: nn.Sequential(nn.Linear(2, 32), activation(), nn.Linear(32, 2)))
            ...
            return fr.sweep.table(hparams, fr.sweep.at_best(result))

        print(fr.sweep.each(run, activation=[nn.ReLU, nn.Tanh]).over("seed"))

    Args:
        run: called with a choice of each axis by name, the last axis varying fastest; it gives a Table, always with
            the same columns.
        axes: name = choices: a dict label -> choice; or some strings, numbers, functions or classes, which are their
            own labels.

    Returns:
        A Table of all their rows, which begin with the labels of the choices.

    Raises:
        FuncregError: without axes, for an axis without choices, labels that are none or not one each, what is not a
            Table, or other columns than the first run's.

    >>> import torch
    >>> def run(activation):
    ...     return table({"x": torch.tensor([-1.0, 1.0])}, {"y": activation(torch.tensor([-1.0, 1.0]))})
    >>> print(each(run, activation=[torch.relu, torch.abs]))
    activation  member   x  y
          relu       0  -1  0
          relu       1   1  1
           abs       0  -1  1
           abs       1   1  1
    """
    _checks.check_callable("run", run, "a function of a choice of each axis that gives a Table")
    if not axes:
        _checks.fail("axes", "none", "at least one, such as each(run, activation=[torch.relu, torch.tanh])")
    labelled = {name: _labelled(name, choices) for name, choices in axes.items()}
    rows: list[dict[str, Any]] = []
    settings: tuple[str, ...] = ()
    for labels in product(*labelled.values()):
        chosen = dict(zip(labelled, labels, strict=True))
        own = run(**{name: labelled[name][label] for name, label in chosen.items()})
        if not isinstance(own, Table):
            _checks.fail("run", f"a return of {_checks.describe(own)}", "a Table, of fr.sweep.table")
        for row in own.rows:
            if chosen.keys() & row.keys():
                twice = ", ".join(chosen.keys() & row.keys())
                _checks.fail("axes", f"{twice}, as a column of the table is called", "names of their own", "Rename it.")
            rows.append(chosen | row)
            if rows[-1].keys() != rows[0].keys():
                got, allowed = ", ".join(row), ", ".join(name for name in rows[0] if name not in chosen)
                _checks.fail("run", f"a table of {got} for {chosen}", f"the columns of the first one, {allowed}")
        settings = (*chosen, *own.settings)
    return Table(tuple(rows), settings)


def _labelled(name: str, choices: Any) -> dict[Any, Any]:
    if isinstance(choices, str) or not isinstance(choices, Iterable):
        _checks.fail(name, _checks.describe(choices), "a dict label -> choice, or a list of choices")
    if isinstance(choices, Mapping):
        labels = dict(choices)
    else:
        choices = list(choices)
        labels = {_label(name, choice): choice for choice in choices}
        if len(labels) < len(choices):
            _checks.fail(name, "two choices of one name", "a name for each", f"Pass {name}={{label: choice, ...}}.")
    if not labels:
        _checks.fail(name, "no choices", "at least one")
    return labels


def _label(name: str, choice: Any) -> Any:
    label = choice if isinstance(choice, str | int | float) else getattr(choice, "__name__", None)
    if label is None or label == "<lambda>":
        remedy = f"Pass {name}={{label: choice, ...}}."
        _checks.fail(name, _checks.describe(choice), "strings, numbers, functions or classes with a name", remedy)
    return label


def _named(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves by name; unlike `tree.names`, dicts in their own order: that of the grid."""
    if isinstance(node, dict):
        children = list(node.items())
    elif isinstance(node, tuple | list):
        children = list(zip(getattr(node, "_fields", range(len(node))), node, strict=True))
    else:
        if node is not None:
            yield prefix, node
        return
    for name, child in children:
        yield from _named(child, f"{prefix}.{name}" if prefix else str(name))


def _summary(others: tuple[str, ...], metrics: list[str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    summary: dict[str, Any] = {name: rows[0][name] for name in others} | {"n": len(rows)}
    for name in metrics:
        values = [float(row[name]) for row in rows]
        finite = all(map(math.isfinite, values))
        summary[name] = fmean(values) if finite else math.nan
        summary[f"{name} sd"] = stdev(values) if finite and len(values) > 1 else math.nan
    return summary


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
