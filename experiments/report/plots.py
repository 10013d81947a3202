"""Figures: one canvas, one palette that colour-blind readers can tell apart, members as bands; animations.

No pyplot and so no global state: a figure is an object that is drawn, saved and dropped.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image, ImageChops

# Okabe and Ito's colours, without the yellow that is too pale on white.
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
    "#222222",
)
PALETTE = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK)
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
SEQUENTIAL = "cividis"
DIVERGING = "RdBu_r"
_HALO = withStroke(linewidth=3, foreground="white")  # keeps text legible on lines and dots
_SHORT = 40  # a logarithmic axis of less from end to end has too few powers of ten to be read by

_STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=list(PALETTE)),
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 2.0,
    "figure.facecolor": "white",
}


def canvas(
    rows: int = 1, columns: int = 1, *, caption: str, height: float = 3.6, width: float = 8.0, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns axes; the caption goes with it into the report.

    Args:
        caption: what is shown and what to see in it: a sentence or two.
        height, width: of the whole figure, in inches.
        options: for `Figure.subplots`, e.g. sharey=True.

    Returns:
        The figure, and its axes as an array (rows, columns).
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    figure.set_label(caption)
    return figure, axes


def style() -> AbstractContextManager[None]:
    """The look that figures made and saved inside the block have."""
    return matplotlib.rc_context(_STYLE)


class Animation(NamedTuple):
    """Figures of one size shown one after the other, over and over; the last one stays for longer.

    `caption`: as `canvas` has it; those of the frames are not shown. `seconds`: of each frame.
    """

    frames: list[Figure]
    caption: str
    seconds: float = 0.6


def caption_of(figure: Figure | Animation) -> str:
    """What is shown and what to see in it."""
    return figure.caption if isinstance(figure, Animation) else str(figure.get_label())


def encode(figure: Figure | Animation) -> tuple[str, bytes]:
    """The file that a figure becomes: its suffix, png or gif, and its bytes."""
    return ("gif", gif(figure)) if isinstance(figure, Animation) else ("png", png(figure))


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file, of 256 colours where they are enough: a third of the size."""
    image = _drawn(figure, dpi=144)
    few = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    off = ImageChops.difference(image, few.convert("RGB")).convert("L").histogram()  # pixels by levels of grey
    enough = sum(off[16:]) < 0.01 * sum(off)  # photographs need more
    buffer = io.BytesIO()
    (few if enough else image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def gif(animation: Animation) -> bytes:
    """An animation as the bytes of a GIF file."""
    frames = [_drawn(frame, dpi=100) for frame in animation.frames]
    together = Image.new("RGB", (frames[0].width, sum(frame.height for frame in frames)))
    for index, frame in enumerate(frames):
        together.paste(frame, (0, index * frame.height))
    # One palette for all, or what does not change would flicker.
    palette = together.quantize(64, method=Image.Quantize.MEDIANCUT)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    pause = round(1000 * animation.seconds)
    buffer = io.BytesIO()
    durations = [pause] * len(others) + [4 * pause]
    first.save(buffer, format="GIF", save_all=True, append_images=others, duration=durations, loop=0)
    return buffer.getvalue()


def _drawn(figure: Figure, dpi: int) -> Image.Image:
    """Its pixels; `savefig` would draw it twice, and write and read a file."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def band(axes: Axes, x: Sequence[float], members: Any, label: str, index: int = 0, **options: Any) -> None:
    """The mean over members as a line, and one standard deviation to each side as a band.

    Args:
        members: (K, len(x)) numbers, of which None counts as missing; or the record of an `estimates.Curve`.
        index: of colour and line style, so that the two never tell apart by colour alone.
    """
    if isinstance(members, Mapping):
        mean, sd = _array(members["mean"]), _array(members["sd"]) if members["n"] > 1 else None
    else:
        values = _array(members)
        mean, sd = np.nanmean(values, axis=0), np.nanstd(values, axis=0, ddof=1) if len(values) > 1 else None
    style: dict[str, Any] = {"color": PALETTE[index % 7], "linestyle": LINES[index % 6], "label": label, **options}
    axes.plot(x, mean, **style)
    if sd is not None:
        axes.fill_between(x, mean - sd, mean + sd, color=style["color"], alpha=0.15, linewidth=0)


def strip(
    axes: Axes,
    names: Sequence[str],
    members: Sequence[Sequence[float]],
    *,
    unit: str = "",
    colors: Sequence[str] = PALETTE,
) -> None:
    """Every member as a dot, with the mean and its 95% interval beside: one row a name, top down."""
    from .estimates import estimate, number

    for row, (values, color) in enumerate(zip(members, colors, strict=False)):
        result = estimate(values)
        jitter = np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else np.zeros(1)
        pale = 0.35 * min(1.0, 8 / len(values) ** 0.5)  # so that the mean is seen among hundreds
        axes.plot(values, row + jitter, "o", color=color, alpha=pale, markersize=4, markeredgewidth=0)
        reach = [[result.mean - result.low], [result.high - result.mean]]
        axes.errorbar(
            [result.mean], [row], xerr=reach, fmt="D", color=color, markersize=6, capsize=4, markeredgecolor="white"
        )
        shown = f"{number(result.mean)}{unit}".replace("-", "\N{MINUS SIGN}")  # as on the axes
        look = {"ha": "center", "va": "bottom", "fontsize": 10, "color": color, "path_effects": [_HALO]}
        axes.annotate(shown, (result.mean, row - 0.3), **look)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.6)
    axes.grid(False, axis="y")


def counting(axis: Axis) -> None:
    """Plain whole numbers on an axis, logarithmic ones too: 1, 10, 100 rather than powers, and 2, 5 on a short one."""
    if axis.get_scale() == "log":

        def between(value: float, _: int | None) -> str:
            low, high = sorted(axis.get_view_interval())
            return f"{value:g}" if high < _SHORT * low and f"{value:e}"[0] in "25" else ""

        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(FuncFormatter(between))
    else:
        axis.set_major_locator(MaxNLocator(integer=True))


def picture(axes: Axes, pixels: Any, title: str = "", **options: Any) -> Any:
    """An image without ticks or frame; returns what `Figure.colorbar` wants."""
    shown = axes.imshow(_array(pixels), **{"interpolation": "nearest", **options})
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title, loc="center", fontsize=10, fontweight="normal")
    return shown


def _array(values: Any) -> np.ndarray:
    """Lists, arrays or a tensor as float64; None becomes NaN."""
    return np.array(values.tolist() if hasattr(values, "tolist") else values, dtype=float)
