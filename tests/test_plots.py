"""Figures: none without alt text, none told by colour alone, the same bytes each time, and readable."""

import base64
import doctest
import itertools
import struct

import nbformat
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from hesslab import plots

FINDING = "The loss falls by half every seven steps & never rises."


def drawn(figure):
    """The figure laid out, as `show` renders it."""
    plots._png(figure)
    return figure


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_examples():
    assert doctest.testmod(plots).failed == 0


# Colours


def luminance(color):
    """Relative luminance, WCAG 2.1."""
    return float(linear(color) @ (0.2126, 0.7152, 0.0722))


def linear(color):
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIELAB, D65, of linear RGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    t = to_xyz @ np.clip(rgb, 0, 1) / (0.9505, 1.0, 1.089)
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira & Fernandes 2009, severity 1.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deuteranopia": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
}


@pytest.mark.parametrize("vision", VISION)
def test_colours_differ_for_every_eye(vision):
    seen = [lab(np.array(VISION[vision]) @ linear(color)) for color in plots.PALETTE]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 15


@pytest.mark.parametrize("color", plots.PALETTE)
def test_colours_stand_out_from_white(color):
    assert 1.05 / (luminance(color) + 0.05) >= 3
    assert 1.05 / (luminance(plots._dark(color)) + 0.05) >= 4.5


def test_no_line_is_told_by_colour_alone():
    assert len(set(plots.PALETTE)) == len(set(plots.DASHES)) == len(set(plots.MARKERS)) == 5
    _, axes = plots.panels()
    plots.watched(axes, {f"series {i}": np.arange(9.0) for i in range(5)})
    assert len({line.get_marker() for line in axes.lines}) == 5
    assert len({line.get_color() for line in axes.lines}) == 5
    _, axes = plots.panels()
    for i in range(5):
        axes.plot([0, 1], [0, i])
    assert len({repr((line.get_linestyle(), line._dash_pattern)) for line in axes.lines}) == 5


# Panels


def test_panels_come_as_matplotlib_gives_them():
    assert not isinstance(plots.panels()[1], np.ndarray)
    assert plots.panels(1, 3)[1].shape == plots.panels(3, 1)[1].shape == (3,)
    assert plots.panels(2, 3)[1].shape == (2, 3)
    assert plots.panels(4, 2)[0].get_size_inches().tolist() == [8, 9]
    assert plots.panels(size=(4, 3))[0].get_size_inches().tolist() == [4, 3]


@pytest.mark.parametrize("size", [(9, 3), (8, 11), (0, 3), (3, -1)])
def test_panels_refuse_to_be_large(size):
    with pytest.raises(ValueError, match=r"size is .*; expected inches, at most \(8\.0, 10\.0\)"):
        plots.panels(size=size)


def test_panels_are_no_part_of_pyplot():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    plots.panels(2, 2)
    assert plt.get_fignums() == before


def test_a_picture_is_the_same_each_time_and_holds_no_date_and_no_version():
    def picture():
        figure, axes = plots.panels()
        plots.watched(axes, {"loss": np.exp(-np.arange(50.0))}, log=True)
        return plots._png(figure)

    first = picture()
    assert first == picture()
    assert chunks(first) <= {b"IHDR", b"pHYs", b"IDAT", b"IEND"}


def chunks(png):
    """The kinds of chunks in a PNG file: tEXt would hold the software and its version."""
    kinds, at = set(), 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kinds.add(png[at + 4 : at + 8])
        at += length + 12
    return kinds


def test_every_text_is_readable_when_projected():
    figure, axes = plots.panels()
    axes.set_title("title", fontsize=7)
    axes.text(0, 0, "small", fontsize=5)
    axes.plot([0, 1], label="line")
    axes.legend(fontsize="x-small")
    assert min(text.get_fontsize() for text in drawn(figure).findobj(Text)) >= 11


# Show


@pytest.mark.parametrize("alt", ["", "a plot", "x" * 39, "short    " + " " * 80])
def test_no_figure_without_alt_text(alt):
    figure, _ = plots.panels()
    with pytest.raises(ValueError, match=r"alt is .*, of \d+ characters; expected 40 or more"):
        plots.show(figure, alt)
    with pytest.raises(ValueError, match="expected 40 or more: say what is found"):
        plots.slider(lambda axes, x: None, alt, x=(0.0, 1.0, 0.1))


def test_in_a_terminal_the_alt_text_is_printed(capsys):
    plots.show(plots.panels()[0], FINDING)
    plots.slider(lambda axes, x: None, FINDING, x=(0.0, 1.0, 0.1))
    assert capsys.readouterr().out == f"{FINDING}\n{FINDING}\n"


@pytest.fixture(scope="module")
def notebook():
    cells = [
        f"from hesslab import plots\nalt = {FINDING!r}",
        "figure, axes = plots.panels()\nplots.show(figure, alt)",
        "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()\nplots.show(figure, alt)",
        "drawn = []\ndef draw(axes, eta, beta):\n    drawn.append((eta, beta)); axes.plot([eta, beta])",
        "plots.slider(draw, alt, eta=(0.0, 2.0, 0.5), beta=(0.0, 1.0, 0.1, 0.9))",
        "import gc, ipywidgets\n"
        "found = lambda kind: [o for o in gc.get_objects() if type(o) is kind]\n"
        "first, = (picture.value for picture in found(ipywidgets.HTML))\n"
        "for each in found(ipywidgets.FloatSlider):\n    each.value = 0.5\n"
        "second, = (picture.value for picture in found(ipywidgets.HTML))\n"
        "print(drawn, first.partition(',')[0], first.endswith('\">'), first != second)",
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nb = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)), metadata=kernel)
    NotebookClient(nb, timeout=120).execute()
    return nb


@pytest.mark.parametrize("cell", [1, 2])
def test_a_figure_in_a_notebook_is_shown_once_with_its_alt_text(notebook, cell):
    (output,) = notebook.cells[cell].outputs
    assert output.output_type == "display_data"
    assert output.metadata == {"image/png": {"alt": FINDING}}
    assert set(output.data) == {"image/png", "text/plain"}
    assert output.data["text/plain"].startswith("<Figure size 6")
    assert base64.b64decode(output.data["image/png"])[1:4] == b"PNG"


def test_alt_text_reaches_the_web_page(notebook):
    page, _ = HTMLExporter(template_name="classic").from_notebook_node(notebook)
    assert page.count('alt="The loss falls by half every seven steps &amp; never rises."') == 2


def test_a_slider_shows_its_alt_text_and_redraws_when_moved(notebook):
    (output,) = notebook.cells[4].outputs
    assert output.data["text/plain"] == FINDING
    assert "application/vnd.jupyter.widget-view+json" in output.data
    (printed,) = notebook.cells[5].outputs
    calls = [(1.0, 0.9), (0.5, 0.9), (0.5, 0.5)], [(1.0, 0.9), (1.0, 0.5), (0.5, 0.5)]
    picture = (
        '<img alt="The loss falls by half every seven steps &amp; never rises." src="data:image/png;base64'
    )
    assert printed.text in [f"{each} {picture} True True\n" for each in calls]


# Drawing


def test_spectrum_ranks_eigenvalues_and_tells_signs_apart():
    values = np.array([-1.0, 5.0, 2.0, -3.0])
    figure, axes = plots.panels()
    plots.spectrum(axes, values, symlog=0.1)
    stems, positive, negative = axes.collections
    assert positive.get_offsets().tolist() == [[1, 5], [2, 2]]
    assert negative.get_offsets().tolist() == [[3, -1], [4, -3]]
    assert positive.get_paths()[0] != negative.get_paths()[0]
    assert len(stems.get_segments()) == 4
    low, high = drawn(figure).axes[0].get_ylim()
    assert low < -3
    assert high > 5
    plots.spectrum(plots.panels()[1], np.arange(100.0))


def test_density_shades_its_band():
    figure, axes = plots.panels()
    grid = np.linspace(0, 1, 5)
    plots.density(axes, grid, grid, band=(grid - 0.1, grid + 0.2), label="SLQ")
    vertices = axes.collections[0].get_paths()[0].vertices
    assert vertices[:, 1].min() == pytest.approx(-0.1)
    assert vertices[:, 1].max() == pytest.approx(1.2)
    assert axes.lines[0].get_label() == "SLQ"
    plots.density(axes, grid, grid)
    assert len(axes.collections) == 1
    drawn(figure)


def test_histogram_has_area_one():
    figure, axes = plots.panels()
    plots.histogram(axes, np.random.default_rng(0).standard_normal((30, 3)), bins=7)
    assert sum(bar.get_width() * bar.get_height() for bar in axes.patches) == pytest.approx(1)
    drawn(figure)


def test_contours_are_where_the_function_has_the_level():
    figure, axes = plots.panels()
    plots.contours(axes, lambda x: float(x @ x), (-2, 2), (-2, 2), levels=[1.0])
    circle = axes.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(np.linalg.norm(circle, axis=1), 1, atol=0.01)
    assert axes.get_xlim() == axes.get_ylim() == (-2, 2)
    drawn(figure)


def test_contours_part_the_rectangle_into_equal_areas():
    _, axes = plots.panels()
    plots.contours(axes, lambda x: np.exp(3 * x[0]), (0, 1), (0, 1), levels=5)
    levels = np.log(axes.collections[0].levels) / 3
    np.testing.assert_allclose(levels, [0.1, 0.3, 0.5, 0.7, 0.9], atol=0.02)
    plots.contours(plots.panels()[1], lambda x: x[0] * x[1], (-1, 1), (-1, 1))


def test_a_plane_has_its_level_lines_where_the_values_are_and_their_heights_on_them():
    figure, axes = plots.panels()
    x, y = np.linspace(-1, 1, 21), np.linspace(0, 3, 31)
    plots.plane(axes, x, y, x[:, None] + 0 * y, levels=[0.25, 0.5])
    shades, lines = axes.collections
    for level, line in zip((0.25, 0.5), lines.get_paths(), strict=True):
        np.testing.assert_allclose(line.vertices[:, 0], level, atol=1e-12)  # along the first axis of values
        assert (line.vertices[:, 1].min(), line.vertices[:, 1].max()) == (0, 3)
    gray = shades.get_facecolor()[:, 0]
    assert len(gray) == 3
    assert np.all(np.diff(gray) < -0.1)  # the higher, the darker
    assert {text.get_text() for text in axes.texts} == {"0.25", "0.5"}
    drawn(figure)


def test_a_plane_is_empty_where_a_value_is_missing():
    _, axes = plots.panels()
    values = np.add.outer(np.arange(5.0), np.arange(5.0))
    values[:, 3:] = np.nan
    plots.plane(axes, np.arange(5), np.arange(5), values, levels=[1.0, 3.0])
    assert all(path.vertices[:, 1].max() <= 2 for path in axes.collections[1].get_paths())


def test_a_path_starts_open_and_ends_filled():
    figure, axes = plots.panels()
    plots.path(axes, [(0.0, 0.0), (1.0, 1.0), (2.0, 0.0)], label="gd")
    plots.path(axes, np.ones((2, 2)))
    ends = axes.collections[0]
    assert ends.get_offsets().tolist() == [[0, 0], [2, 0]]
    assert [tuple(color[:3]) for color in ends.get_facecolor()] == [(1, 1, 1), to_rgb(plots.PALETTE[0])]
    assert [line.get_color() for line in axes.lines] == list(plots.PALETTE[:2])
    drawn(figure)


def test_lines_are_labelled_at_their_ends_and_labels_kept_apart():
    figure, axes = plots.panels()
    steps = np.arange(100.0)
    plots.watched(axes, {name: (steps, steps + 0.1 * k) for k, name in enumerate("abcde")}, xlabel="t")
    renderer = FigureCanvasAgg(drawn(figure)).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in sorted(axes.texts, key=Text.get_text)]
    assert texts(axes) == list("abcde")
    assert all(below.y1 <= above.y0 + 1 for below, above in itertools.pairwise(boxes))
    end = axes.transData.transform((99, 99.2))
    assert abs(np.mean([box.y0 + box.y1 for box in boxes]) / 2 - end[1]) < 15
    assert all(box.x0 > end[0] for box in boxes)


def test_a_diverging_line_is_labelled_where_it_was_last_seen():
    figure, axes = plots.panels()
    plots.watched(
        axes, {"up": [1.0, 2.0, np.inf], "down": [1.0, 0.5, 0.0], "never": [np.nan, np.nan]}, log=True
    )
    assert {text.get_text(): tuple(text.xy) for text in axes.texts} == {"up": (1, 2), "down": (1, 0.5)}
    drawn(figure)


@pytest.mark.parametrize("heights", [[0.0], [0, 0, 0], [0, 5, 50, 51, 52], [0, 11, 12, 100], [-3, -3, 40]])
def test_labels_move_no_more_than_they_must(heights):
    places = np.array(plots._apart(heights, 10.0))
    assert np.all(np.diff(places) >= 10 - 1e-9)
    moved = np.sum((places - heights) ** 2)
    rng = np.random.default_rng(0)
    for _ in range(200):
        other = places + 0.5 * rng.standard_normal(len(places))
        if np.all(np.diff(other) >= 10):
            assert np.sum((other - heights) ** 2) >= moved - 1e-9


def test_a_matrix_shows_its_entries_where_they_fit():
    A = np.array([[1.0, -0.5], [-0.5, -2.0]])
    figure, (left, right) = plots.panels(1, 2)
    plots.matrix(left, A)
    assert texts(left) == ["1", "-0.5", "-0.5", "-2"]
    assert left.images[0].get_clim() == (-2, 2)
    for text, entry in zip(left.texts, A.ravel(), strict=True):
        background = luminance(left.images[0].to_rgba(entry)[:3])
        low, high = sorted([background, luminance(text.get_color())])
        assert (high + 0.05) / (low + 0.05) >= 3.5
    plots.matrix(right, np.zeros((7, 7)))
    assert texts(right) == []
    drawn(figure)


def test_a_threshold_stands_at_its_value_with_its_label():
    figure, axes = plots.panels()
    plots.threshold(axes, 2.0, "2/η")
    plots.threshold(axes, 3.0, "edge", vertical=True)
    across, upright = axes.lines
    assert across.get_ydata() == [2, 2]
    assert upright.get_xdata() == [3, 3]
    assert texts(axes) == ["2/η", "edge"]
    for text, value, axis in zip(axes.texts, (2.0, 3.0), (1, 0), strict=True):
        place = axes.transData.inverted().transform(text.get_transform().transform(text.get_position()))
        assert place[axis] == pytest.approx(value)
    drawn(figure)
