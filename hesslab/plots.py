"""Draw a result on given Axes; show a figure with alt text; compute nothing.

The colours are those of Okabe and Ito that stand out from white (a contrast of 3 and more), and no line is
told from another by colour alone: dashes and markers change with it, and labels stand at the lines.
"""

import base64
import html
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

#: Blue, vermilion, green, purple, black (Okabe & Ito 2008, "Color universal design").
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")
INK, FAINT = "#222222", "#888888"

DPI = 96
FONT_SIZE = 11  # points; at 96 dots an inch and 8 inches of width it is read from the last row
LARGEST = (8.0, 10.0)  # inches
SHORTEST_ALT = 40  # characters


def panels(rows: int = 1, columns: int = 1, *, size: tuple[float, float] | None = None) -> tuple[Figure, Any]:
    """A figure of `rows` × `columns` panels in the house style, and its Axes.

    The Axes come as matplotlib's `subplots` gives them: a single one, or an array of them; a single row or
    column of panels is an array of one dimension. `size` is (width, height) in inches, at most (8, 10). The
    figure is no part of pyplot: `show` displays it.

    >>> figure, (left, right) = panels(1, 2)
    >>> figure
    <Figure size 768x336 with 2 Axes>
    """
    width, height = size or (6.5 if columns == 1 else 8.0, min(3.5 * rows, 9.0))
    if not 0 < width <= LARGEST[0] or not 0 < height <= LARGEST[1]:
        raise ValueError(
            f"size is {(width, height)}; expected inches, at most {LARGEST}, to keep notebooks small"
        )
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns)
    for each in np.ravel(axes):
        each.set_prop_cycle(cycler(color=PALETTE) + cycler(linestyle=DASHES) + cycler(linewidth=[1.8] * 5))
        each.spines[["top", "right"]].set_visible(False)
        each.grid(color="#DDDDDD", linewidth=0.6)
        each.set_axisbelow(True)
    return figure, axes


def show(figure: Figure, alt: str) -> None:
    """Display `figure` as a picture whose alt text is `alt`, a sentence that states what the figure finds.

    Every text becomes at least 11 points large. In a terminal the alt text is printed instead. Raises
    ValueError where `alt` has fewer than 40 characters: "a plot" helps nobody who cannot see it.
    """
    alt = _finding(alt)
    if (display := _notebook_display()) is None:
        print(alt)
        return
    data = {"image/png": base64.b64encode(_png(figure)).decode(), "text/plain": repr(figure)}
    display(data, raw=True, metadata={"image/png": {"alt": alt}})
    if "matplotlib.pyplot" in sys.modules:  # a figure of pyplot is shown a second time unless closed
        sys.modules["matplotlib.pyplot"].close(figure)


def spectrum(axes: Axes, values: Any, *, symlog: float | None = None, label: str | None = None) -> None:
    """Eigenvalues by rank, largest first: filled circles where positive, open squares where negative.

    `symlog`: the eigenvalue below which the logarithmic vertical axis becomes linear.
    """
    if symlog is not None:
        axes.set_yscale("symlog", linthresh=symlog)
    values = np.sort(np.asarray(values, dtype=float))[::-1]
    rank, positive = np.arange(1, values.size + 1), values >= 0
    if values.size <= 60:
        axes.vlines(rank, 0, values, color=FAINT, linewidth=1)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.scatter(rank[positive], values[positive], s=25, color=PALETTE[0], label=label, zorder=2)
    squares = axes.scatter(rank[~positive], values[~positive], s=25, marker="s", zorder=2)
    squares.set(facecolor="white", edgecolor=PALETTE[1])
    axes.set(xlabel="rank", ylabel="eigenvalue λ")


def density(axes: Axes, grid: Any, density: Any, band: Any = None, *, label: str | None = None) -> None:
    """A spectral density over `grid`, with its `band` (lower, upper) shaded where it has one."""
    (line,) = axes.plot(grid, density, marker="", label=label)
    if band is not None:
        axes.fill_between(grid, band[0], band[1], color=line.get_color(), alpha=0.25, linewidth=0)
    axes.set(xlabel="eigenvalue λ", ylabel="density")


def histogram(axes: Axes, values: Any, *, bins: Any = 40, label: str | None = None) -> None:
    """The values as a histogram of area one, comparable with a density."""
    axes.hist(np.ravel(values), bins=bins, density=True, color="#C9C9C9", edgecolor="white", label=label)
    axes.set(ylabel="density")


def contours(
    axes: Axes,
    function: Callable[[Any], float],
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    levels: int | Sequence[float] = 12,
) -> None:
    """Level lines of `function`, of a point (2,), over a rectangle: 3,600 evaluations.

    An integer asks for levels that part the rectangle into equal areas, which shows valleys of any depth.
    """
    x, y = np.linspace(*xlim, 60), np.linspace(*ylim, 60)
    values = np.array([[function(np.array([u, v])) for u in x] for v in y], dtype=float)
    parts = (np.arange(levels) + 0.5) / levels if isinstance(levels, int) else None
    heights = levels if parts is None else np.unique(np.quantile(values, parts))
    axes.contour(x, y, values, levels=heights, colors=FAINT, linewidths=0.8)
    axes.set(xlim=xlim, ylim=ylim, xlabel="θ₁", ylabel="θ₂")


def plane(axes: Axes, x: Any, y: Any, values: Any, levels: Sequence[float]) -> None:
    """Level lines of values[i, j] at (x_i, y_j), as `slice_2d` gives them; the higher, the darker between.

    Each of the ascending `levels` is written on its line, so that nothing is told by the shade alone. Where a
    value is NaN, nothing is drawn.
    """
    heights = np.asarray(values, dtype=float).T
    shades = [str(shade) for shade in np.linspace(1.0, 0.55, len(levels) + 1)]
    axes.contourf(x, y, heights, levels=[-np.inf, *levels, np.inf], colors=shades)
    lines = axes.contour(x, y, heights, levels=levels, colors=INK, linewidths=0.8)
    axes.clabel(lines, fontsize=FONT_SIZE, fmt=lambda level: f"{level:g}")
    axes.grid(visible=False)


def path(axes: Axes, points: Any, *, label: str | None = None) -> None:
    """A trajectory of points (steps, 2): an open circle at its start, a filled one at its end."""
    x, y = np.asarray(points, dtype=float).T
    (line,) = axes.plot(x, y, marker=".", markersize=4, linewidth=1.2, label=label)
    color = line.get_color()
    axes.scatter(x[[0, -1]], y[[0, -1]], s=70, facecolors=["white", color], edgecolors=color, zorder=3)


def watched(axes: Axes, series: Mapping[str, Any], *, xlabel: str = "step", log: bool = False) -> None:
    """One line for each name, its values by step or a pair (x, values), labelled at its right end.

    Draw it last: the labels are kept apart at the scale that the axes have now.
    """
    lines = []
    for index, (name, values) in enumerate(series.items()):
        x, y = values if isinstance(values, tuple) else (np.arange(len(values)), values)
        stride = max(1, len(y) // 8)
        (line,) = axes.plot(np.asarray(x), np.asarray(y, dtype=float), label=name, markersize=5)
        line.set(marker=MARKERS[index % len(MARKERS)], markevery=(index * stride // 4 % stride, stride))
        lines.append(line)
    axes.set(xlabel=xlabel, yscale="log" if log else axes.get_yscale())
    _label_ends(axes, lines)


def matrix(axes: Axes, A: Any) -> None:
    """A matrix as a heat map, symmetric about zero; the entries stand in it where it has at most six rows."""
    A = np.asarray(A, dtype=float)
    limit = float(np.max(np.abs(A))) or 1.0
    image = axes.imshow(A, cmap="PuOr", vmin=-limit, vmax=limit)
    axes.figure.colorbar(image, ax=axes, shrink=0.8)
    axes.grid(visible=False)
    for (i, j), entry in np.ndenumerate(A) if max(A.shape) <= 6 else ():
        color = "white" if np.dot(image.to_rgba(entry)[:3], (0.3, 0.6, 0.1)) < 0.45 else INK
        axes.text(j, i, f"{entry:z.2g}", ha="center", va="center", color=color)


def threshold(axes: Axes, value: float, label: str, *, vertical: bool = False) -> None:
    """A dotted line at `value`, across or upright, with its label on it."""
    if vertical:
        line, words = axes.axvline(value), axes.text(value, 0.98, label, rotation=90, ha="right", va="top")
        words.set_transform(axes.get_xaxis_transform())
    else:
        line, words = axes.axhline(value), axes.text(0.01, value, label, va="bottom")
        words.set_transform(axes.get_yaxis_transform())
    line.set(color=INK, linestyle=(0, (2, 2)), linewidth=1.4)
    words.set(color=INK, fontsize=FONT_SIZE, path_effects=[withStroke(linewidth=3, foreground="white")])


def slider(draw: Callable[..., None], alt: str, /, **ranges: tuple[float, ...]) -> None:
    """Sliders above a figure that `draw(axes, name=value, …)` draws anew at each move.

    `ranges` maps each name to (low, high, step) or (low, high, step, start). `alt` says what the moves show,
    and stands in where there is no kernel. Needs ipywidgets. For paper, draw the same function on a few
    `panels` in the next cell.
    """
    alt = _finding(alt)
    if (display := _notebook_display()) is None:
        print(alt)
        return
    import ipywidgets  # type: ignore[import-untyped]

    picture = ipywidgets.HTML()  # an Image widget knows no alt text, and its tooltip fails in JupyterLab 4
    sliders = {name: _slider(ipywidgets, name, *limits) for name, limits in ranges.items()}

    def redraw(_: Any = None) -> None:
        # No pyplot and no Output widget: both race with JupyterLab's second thread for widget messages.
        figure, axes = panels()
        draw(axes, **{name: each.value for name, each in sliders.items()})
        data = base64.b64encode(_png(figure)).decode()
        picture.value = f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'

    redraw()
    for each in sliders.values():
        each.observe(redraw, "value")
    box = ipywidgets.VBox([*sliders.values(), picture])
    display({**box._repr_mimebundle_(), "text/plain": alt}, raw=True)


def _slider(widgets: Any, name: str, low: float, high: float, step: float, start: float | None = None) -> Any:
    value = (low + high) / 2 if start is None else start
    wide = {"description_width": "initial"}
    return widgets.FloatSlider(
        value, min=low, max=high, step=step, description=name, style=wide, continuous_update=False
    )


def _label_ends(axes: Axes, lines: Sequence[Any]) -> None:
    """Each line's label right of its last finite point, moved no more than it takes to keep labels apart."""
    axes.autoscale_view()  # else the transform is that of the empty axes
    ends = []
    for line in lines:
        points = np.column_stack(line.get_data())
        seen = np.isfinite(points).all(axis=1) & ((points[:, 1] > 0) | (axes.get_yscale() != "log"))
        if seen.any():
            end = points[seen][-1]
            ends.append((axes.transData.transform(end)[1] * 72 / DPI, *end, line))
    ends.sort(key=lambda end: end[0])
    free = _apart([end[0] for end in ends], 1.25 * FONT_SIZE)
    for (height, x, y, line), place in zip(ends, free, strict=True):
        shift = (8, place - height)
        words = axes.annotate(line.get_label(), (x, y), shift, textcoords="offset points", va="center")
        words.set(color=_dark(line.get_color()), fontsize=FONT_SIZE)


def _apart(heights: list[float], gap: float) -> list[float]:
    """The heights nearest to the given, ascending ones that are `gap` apart, by isotonic regression."""
    x, n = np.array(heights) - gap * np.arange(len(heights)), len(heights)
    level = [max(min(x[j : k + 1].mean() for k in range(i, n)) for j in range(i + 1)) for i in range(n)]
    return [float(each) + gap * i for i, each in enumerate(level)]


def _dark(color: Any) -> tuple[float, ...]:
    """The colour, dark enough for text on white: a contrast of 4.5 and more."""
    return tuple(0.75 * part for part in to_rgb(color))


def _finding(alt: str) -> str:
    alt = " ".join(alt.split())
    if len(alt) < SHORTEST_ALT:
        raise ValueError(
            f"alt is {alt!r}, of {len(alt)} characters; expected {SHORTEST_ALT} or more: say what is found"
        )
    return alt


def _png(figure: Figure) -> bytes:
    for text in figure.findobj(Text):
        text.set_fontsize(max(FONT_SIZE, text.get_fontsize()))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _notebook_display() -> Any:
    """IPython's display inside a notebook or IPython, else None."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None or ipython.get_ipython() is None else ipython.display.display
