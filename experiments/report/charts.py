"""Figures that most questions draw, in one call: members' curves as bands, members as dots, reliability."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from funcreg.uncertainty import ReliabilityCurve

from . import plots


class Panel(NamedTuple):
    """One of a row of axes: what each arm has there, by its name, and what is written on it."""

    arms: Mapping[str, Any]
    title: str = ""
    xlabel: str = "epoch"
    ylabel: str = ""


def curves(
    *panels: Panel,
    caption: str,
    x: Sequence[float] | None = None,
    legend: int | None = None,
    columns: int = 4,
    finish: Callable[[Axes], object] = lambda _: None,
    **canvas: Any,
) -> Figure:
    """Each arm over x: the mean over its members, and one sd to each side as a band.

    Args:
        panels: arm -> (members, points), or the record of an `estimates.Curve`.
        x: default 1, 2, ...: epochs.
        legend: the number of the panel that has it. Default: below all, in so many `columns`.
        finish: called with each panel's axes, for limits and lines.
        canvas: options of `plots.canvas`.
    """
    figure, axes = plots.canvas(1, len(panels), caption=caption, **canvas)
    for axis, panel in zip(axes[0], panels, strict=True):
        for index, (name, members) in enumerate(panel.arms.items()):
            plots.band(axis, x or range(1, 1 + _points(members)), members, name, index)
        _label(axis, panel)
        finish(axis)
    if legend is None:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=columns)
    else:
        axes[0, legend].legend()
    return figure


def learning_curves(
    history: Mapping[str, Any], *, names: Sequence[str] | None = None, caption: str = "Learning curves.", **canvas: Any
) -> Figure:
    """The history of a fit: a panel a metric, that of training and its `val_` twin in one; members as a band.

    Args:
        history: of `fr.train.fit`'s result, name -> (epochs,) or (epochs, members).
        names: the metrics to draw, without `val_`. Default: all but norms.
        canvas: options of `plots.canvas`.
    """
    first = {name.removeprefix("val_"): None for name in history}
    chosen = [name for name in first if not name.endswith("_norm")] if names is None else list(names)
    panels = [
        Panel({label: _by_member(history[key]) for label, key in _twins(name) if key in history}, ylabel=name)
        for name in chosen
    ]
    return curves(*panels, caption=caption, legend=0, **canvas)


def strips(
    *panels: Panel, caption: str, unit: str = "", finish: Callable[[Axes], object] = lambda _: None, **canvas: Any
) -> Figure:
    """Each arm's members as dots, their mean and its 95% interval beside: a row an arm, top down.

    Args:
        panels: arm -> (members,).
        unit: of the means.
        finish: called with each panel's axes, for limits and lines.
        canvas: options of `plots.canvas`.
    """
    figure, axes = plots.canvas(1, len(panels), caption=caption, sharey=True, **canvas)
    for axis, panel in zip(axes[0], panels, strict=True):
        plots.strip(axis, list(panel.arms), list(panel.arms.values()), unit=unit)
        _label(axis, panel)
        finish(axis)
    return figure


def reliability(
    arms: Mapping[str, ReliabilityCurve | Sequence[ReliabilityCurve]], *, caption: str, **canvas: Any
) -> Figure:
    """Reliability diagrams: accuracy over confidence, with the diagonal of calibration, and how many are in each bin.

    Args:
        arms: name -> what `fr.uncertainty.reliability_curve` returns: alone, stacked under `vmap` over members, or a
            list of members'. Several are pooled, weighed by their counts.
        canvas: options of `plots.canvas`.
    """
    figure, axes = plots.canvas(2, 1, caption=caption, sharex=True, height_ratios=(3, 1), **{"height": 4.8} | canvas)
    above, below = axes[:, 0]
    above.plot((0, 1), (0, 1), color="#777777", linewidth=1)
    for index, (name, curve) in enumerate(arms.items()):
        confidence, accuracy, count = _pooled(curve)
        style: Any = {"color": plots.PALETTE[index % 7], "linestyle": plots.LINES[index % 6], "label": name}
        some = count > 0
        above.plot(confidence[some], accuracy[some], marker="o", markersize=4, **style)
        below.plot(confidence[some], (count / count.sum())[some], marker="o", markersize=3, **style)
    above.set(ylabel="accuracy", ylim=(-0.02, 1.02))
    below.set(xlabel="confidence", ylabel="share", ylim=(0, None))
    above.legend()
    return figure


def _pooled(curve: ReliabilityCurve | Sequence[ReliabilityCurve]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence, accuracy and count of each bin, over all members; NaN where it is empty in all."""
    curves = [curve] if isinstance(curve, ReliabilityCurve) else curve
    columns = [np.concatenate([np.atleast_2d(each[i].double().numpy()) for each in curves]) for i in range(3)]
    count = columns[2].sum(axis=0)
    with np.errstate(invalid="ignore"):
        means = [np.where(columns[2] > 0, each * columns[2], 0).sum(axis=0) / count for each in columns[:2]]
    return means[0], means[1], count


def _twins(name: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("training", name), ("validation", f"val_{name}")


def _by_member(column: Any) -> Any:
    """(epochs,) or (epochs, members) as (members, epochs)."""
    return column.reshape(len(column), -1).T


def _points(members: Any) -> int:
    return len(members["mean"]) if isinstance(members, Mapping) else len(members[0])


def _label(axis: Axes, panel: Panel) -> None:
    axis.set(xlabel=panel.xlabel)
    if panel.ylabel:
        axis.set_ylabel(panel.ylabel)
    if panel.title:
        axis.set_title(panel.title)
