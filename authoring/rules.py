"""The rules that a built notebook keeps beside nbval. Here: what a rule is, and what may be stored.

A rule is a generator of sentences, one for each breach, registered by its name. The tests run all `RULES`,
those of `form.py` too, over every notebook; each rule has a planted notebook that it must refuse.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from authoring.manifest import START, Lesson, Manifest

MOST_BYTES, SHORTEST_ALT = 1_500_000, 40


@dataclass(frozen=True)
class Page:
    """A built notebook under judgement: its folder, cells and size in bytes, and its place in the course."""

    folder: str
    notebook: NotebookNode
    size: int
    lesson: Lesson
    manifest: Manifest

    @property
    def code(self) -> list[NotebookNode]:
        """The code cells."""
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    @property
    def prose(self) -> list[NotebookNode]:
        """The Markdown cells."""
        return [cell for cell in self.notebook.cells if cell.cell_type == "markdown"]


@dataclass(frozen=True)
class Rule:
    """`judge(page)` yields a sentence a breach; it holds in `folders`, in lesson 00 only if `start`."""

    judge: Callable[[Page], Iterator[str]]
    folders: tuple[str, ...]
    start: bool

    def binds(self, folder: str, stem: str) -> bool:
        """Whether the rule holds for the notebook `stem` in `folder`."""
        return folder in self.folders and (self.start or not stem.startswith(START))


RULES: dict[str, Rule] = {}
EXECUTED = ("lessons", "solutions")


def rule(*folders: str, start: bool = True) -> Callable[..., Callable[[Page], Iterator[str]]]:
    """Register a rule for these folders; `start=False` exempts lesson 00."""

    def register(judge: Callable[[Page], Iterator[str]]) -> Callable[[Page], Iterator[str]]:
        RULES[judge.__name__] = Rule(judge, folders, start)
        return judge

    return register


def page(path: Path, manifest: Manifest) -> Page:
    """The notebook at `path`, ready to be judged."""
    text = path.read_text(encoding="utf8")
    lesson = next(lesson for lesson in manifest.lessons.values() if lesson.stem == path.stem)
    return Page(path.parent.name, nbformat.reads(text, as_version=4), len(text.encode()), lesson, manifest)


def without_code(source: str) -> str:
    """Markdown without its code blocks."""
    return re.sub(r"```.*?```", "", source, flags=re.DOTALL)


# ---- what is stored ------------------------------------------------------------------------------------


def outputs(page: Page) -> Iterator[tuple[int, NotebookNode]]:
    """Every stored output, with the number of its code cell."""
    for number, cell in enumerate(page.code, start=1):
        yield from ((number, output) for output in cell.outputs)


def texts(page: Page) -> Iterator[tuple[int, str]]:
    """Every stored text, with the number of its code cell."""
    for number, output in outputs(page):
        text = output.get("text") or output.get("data", {}).get("text/plain") or output.get("evalue") or ""
        if not text.startswith("<Figure size"):
            yield number, text


def matches(page: Page, pattern: str, what: str) -> Iterator[str]:
    """A sentence for each stored text in which `pattern` is found."""
    for number, text in texts(page):
        if found := re.search(pattern, text, re.MULTILINE):
            yield f"code cell {number} stores {what}: {found[0]!r}"


@rule(*EXECUTED)
def executed_in_order(page: Page) -> Iterator[str]:
    """Each code cell was run once, from top to bottom."""
    counts = [cell.execution_count for cell in page.code]
    if counts != list(range(1, len(counts) + 1)):
        yield f"the cells were executed as {counts}; build the notebook again"


@rule("exercises")
def not_executed(page: Page) -> Iterator[str]:
    """A learner's notebook holds no outputs and was never run."""
    if any(cell.outputs or cell.execution_count for cell in page.code):
        yield "it holds outputs; build it again"


@rule(*EXECUTED, "exercises")
def canonical(page: Page) -> Iterator[str]:
    """The metadata is the builder's: no times, no widget state, no version of a kernel."""
    extra = set(page.notebook.metadata) - {"kernelspec", "language_info", "hesslab"}
    extra |= set(page.notebook.metadata.get("language_info", {})) - {"name"}
    extra |= {
        key for cell in page.notebook.cells for key in cell.metadata if key in ("execution", "scrolled")
    }
    if extra or page.notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield f"its metadata is not the builder's: {', '.join(sorted(extra)) or 'kernelspec'}"


@rule(*EXECUTED, "exercises")
def one_title(page: Page) -> Iterator[str]:
    """The first cell begins with the title, and there is no other."""
    titles = [cell for cell in page.prose if re.search(r"^# ", without_code(cell.source), re.MULTILINE)]
    if len(titles) != 1 or titles[0] is not page.notebook.cells[0] or not titles[0].source.startswith("# "):
        yield f"{len(titles)} cells have a title; expected one, in the first cell"


@rule(*EXECUTED)
def no_errors(page: Page) -> Iterator[str]:
    """No cell ended in an error, unless it is tagged raises-exception."""
    for number, output in outputs(page):
        if output.output_type == "error" and "raises-exception" not in page.code[number - 1].metadata.get(
            "tags", []
        ):
            yield f"code cell {number} stores an error: {output.ename}"


@rule(*EXECUTED)
def no_stderr(page: Page) -> Iterator[str]:
    """Nothing was written to stderr: no warnings, no progress bars."""
    for number, output in outputs(page):
        if output.get("name") == "stderr":
            yield f"code cell {number} stores a warning: {output.text[:80]!r}"


@rule(*EXECUTED)
def only_text_and_png(page: Page) -> Iterator[str]:
    """Outputs are plain text and PNG; HTML and SVG differ from run to run."""
    for number, output in outputs(page):
        for kind in sorted(set(output.get("data", {})) - {"text/plain", "image/png"}):
            yield f"code cell {number} stores {kind}"


@rule(*EXECUTED)
def rounded_numbers(page: Page) -> Iterator[str]:
    """At most four decimals and seven digits, no three-digit exponents, no rounding errors as numbers."""
    raw = r"\d\.\d{5,}|\b(?=[\d.]{9,})\d+\.\d+|\de[-+]?\d{3,}|\d\.\d+e-(1[2-9]|[2-9]\d)"
    yield from matches(page, raw, "a raw float")


@rule(*EXECUTED)
def no_minus_zero(page: Page) -> Iterator[str]:
    """Zero has no sign."""
    yield from matches(page, r"(?<![\w.])-0(\.0*)?(?![\w.])", "a minus zero")


@rule(*EXECUTED)
def no_reprs(page: Page) -> Iterator[str]:
    """Results are told, not dumped."""
    arrays = r"\b(array|tensor)\(\[|\bnp\.(float|int|bool|str)\w*\(|\b(dtype|requires_grad)="
    yield from matches(page, rf"{arrays}|\b[A-Z]\w+\(\w+=|<[\w. ]+ (object|at) ", "a repr")


@rule(*EXECUTED)
def no_times(page: Page) -> Iterator[str]:
    """No wall-clock times and no dates."""
    units = r"(s|ms|µs|us|ns|secs?|seconds?|minutes?|hours?|it/s|s/it)"
    yield from matches(
        page, rf"\b\d+(\.\d+)?\s?{units}\b(?!\.\w)|\b\d\d:\d\d\b|\b20\d\d-\d\d-\d\d\b", "a time"
    )


@rule(*EXECUTED)
def no_paths(page: Page) -> Iterator[str]:
    """No paths of a machine."""
    yield from matches(
        page, r"(?<![\w.])/(tmp|home|root|Users|usr|opt|var|work|mnt)/|\b[A-Z]:\\|site-packages", "a path"
    )


@rule(*EXECUTED)
def no_addresses(page: Page) -> Iterator[str]:
    """No addresses in memory."""
    yield from matches(page, r"0x[0-9a-fA-F]{6,}", "an address")


def alt_texts(page: Page) -> list[tuple[int, str]]:
    """The alt text of each stored figure ("" where it has none), with the number of its code cell."""
    figures = [(number, o) for number, o in outputs(page) if "image/png" in o.get("data", {})]
    return [(number, o.metadata.get("image/png", {}).get("alt", "")) for number, o in figures]


@rule(*EXECUTED)
def figures_have_alt_text(page: Page) -> Iterator[str]:
    """Each figure states its finding in words."""
    for number, alt in alt_texts(page):
        if len(alt) < SHORTEST_ALT:
            yield f"the figure of code cell {number} has alt text {alt!r}; expected {SHORTEST_ALT} characters"


@rule(*EXECUTED)
def alt_texts_are_unique(page: Page) -> Iterator[str]:
    """No two figures say the same."""
    for alt, times in Counter(alt for _, alt in alt_texts(page) if alt).items():
        if times > 1:
            yield f"{times} figures have the alt text {alt!r}"


@rule(*EXECUTED, "exercises")
def small_file(page: Page) -> Iterator[str]:
    """At most 1.5 MB."""
    if page.size > MOST_BYTES:
        yield f"the file has {page.size / 1e6:.1f} MB; use fewer or smaller figures"


@rule(*EXECUTED)
def no_semicolons(page: Page) -> Iterator[str]:
    """No trailing semicolon: nbval does not see it, and compares the repr that it hides."""
    for number, cell in enumerate(page.code, start=1):
        if re.search(r";\s*(#.*)?$", cell.source, re.MULTILINE):
            yield f"code cell {number} ends a line with a semicolon"
