"""The rules for the form of a lesson and of an exercise set: size, cards, predictions, ticket, hints."""

import ast
import re
import statistics
from collections.abc import Iterator

from nbformat import NotebookNode

from authoring.cards import card_title, claim_card
from authoring.probe import probe
from authoring.rules import Page, rule, texts, without_code

CELLS, WORDS_A_LINE, MEDIAN_LINES, MOST_LINES = (35, 60), (15, 25), 5, 20
NUMBERS, QUESTIONS, HINTS, MOST_SECONDS = 8, 3, 3, 60
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+(?:e[+-]?\d+)?|e[+-]?\d+)(?![\w.]*\d)")  # decimals or exponent
# Calls that only dress up a literal: a measured value may pass through them, but does not come from them.
DRESSING = {
    "float",
    "int",
    "abs",
    "round",
    "max",
    "min",
    "sum",
    "len",
    "array",
    "asarray",
    "float64",
    "tensor",
}


@rule("lessons", start=False)
def number_of_cells(page: Page) -> Iterator[str]:
    """35 to 60 cells."""
    if not CELLS[0] <= len(page.notebook.cells) <= CELLS[1]:
        yield f"it has {len(page.notebook.cells)} cells; expected {CELLS[0]} to {CELLS[1]}"


@rule("lessons", start=False)
def prose_and_code(page: Page) -> Iterator[str]:
    """15 to 25 words of prose a line of code."""
    words = sum(len(re.findall(r"[^\W\d_][\w'’-]*", _words_only(cell.source))) for cell in page.prose)
    lines = sum(not line.lstrip().startswith("#") for cell in page.code for line in _lines(cell))
    if not WORDS_A_LINE[0] <= words / max(lines, 1) <= WORDS_A_LINE[1]:
        yield f"it has {words} words of prose and {lines} lines of code; expected 15 to 25 words a line"


@rule("lessons", start=False)
def short_code_cells(page: Page) -> Iterator[str]:
    """The median code cell has at most 5 lines, none more than 20."""
    lengths = [len(_lines(cell)) for cell in page.code]
    for number, length in enumerate(lengths, start=1):
        if length > MOST_LINES:
            yield f"code cell {number} has {length} lines; expected at most {MOST_LINES}"
    median = statistics.median(lengths or [0])
    if median > MEDIAN_LINES:
        yield f"its median code cell has {median:g} lines; expected at most {MEDIAN_LINES}"


@rule("lessons", start=False)
def eight_numbers(page: Page) -> Iterator[str]:
    """At least eight rounded numbers are stored."""
    found = sum(len(NUMBER.findall(text)) for _, text in texts(page))
    if found < NUMBERS:
        yield f"its outputs hold {found} rounded numbers; expected at least {NUMBERS}"


def _lines(cell: NotebookNode) -> list[str]:
    return [line for line in cell.source.splitlines() if line.strip()]


def _words_only(source: str) -> str:
    """Markdown without code blocks, formulas, tags and addresses."""
    return re.sub(
        r"\$\$.*?\$\$|\$[^$\n]+\$|<[^>\n]+>|\]\([^)]*\)", " ", without_code(source), flags=re.DOTALL
    )


# ---- claim cards -----------------------------------------------------------------------------------------


@rule("lessons", start=False)
def claims_have_cards(page: Page) -> Iterator[str]:
    """Each claim of the lesson in course.yml has its card, and then a cell that calls `claim` with its id."""
    measured = [(i, _id(call)) for i, call in calls(page, "claim")]
    for claim in page.manifest.claims_of(page.lesson.id):
        card = claim_card(page.manifest, claim)
        places = [i for i, cell in enumerate(page.notebook.cells) if card in cell.source]
        if len(places) != 1:
            yield f"claim {claim.id} has {len(places)} cards; expected one"
        elif not any(identifier == claim.id and i > places[0] for i, identifier in measured):
            yield f'the card of claim {claim.id} is followed by no claim("{claim.id}", …)'


@rule("lessons", start=False)
def cards_are_claims(page: Page) -> Iterator[str]:
    """Each card, and each call of `claim`, belongs to a claim that course.yml gives to this lesson."""
    claims = page.manifest.claims_of(page.lesson.id)
    for _, call in calls(page, "claim"):
        if _id(call) not in {claim.id for claim in claims}:
            yield f"claim({_id(call)!r}, …) is not a claim of lesson {page.lesson.id} in course.yml"
    titles = {card_title(claim) for claim in claims}
    for cell in page.prose:
        for title in re.findall(r"^> (\*\*Claim [^*]+\*\*)", cell.source, re.MULTILINE):
            if title not in titles:
                yield f"the card {title} is not a claim of lesson {page.lesson.id} in course.yml"


@rule("lessons", start=False)
def measured_is_computed(page: Page) -> Iterator[str]:
    """The measured value of a card comes from a computation, never from a number that was typed in."""
    values = _assigned(page)
    for _, call in calls(page, "claim"):
        measured = [*call.args[1:2], *(k.value for k in call.keywords if k.arg == "measured")]
        if not measured or not _computed(measured[0], values, frozenset()):
            yield f"the measured value of claim {_id(call)} is a literal"


@rule("lessons", start=False)
def cards_can_fail(page: Page) -> Iterator[str]:
    """Each card holds as it stands, and raises when its measured value is pushed beyond its tolerance."""
    found = probe(cells(page))
    yield from found["problems"]
    for claim in page.manifest.claims_of(page.lesson.id):
        if not found["problems"] and claim.id not in found["cards"]:
            yield f"the cell of claim {claim.id} never runs its card"


@rule("lessons", start=False)
def within_its_time(page: Page) -> Iterator[str]:
    """At most 60 s of computing on one thread, and no more than course.yml states."""
    seconds = probe(cells(page))["seconds"]
    stated = 60 * (page.lesson.minutes or {}).get("computing", 0)
    if seconds > min(stated, MOST_SECONDS):
        yield f"it computes for {seconds:.0f} s; course.yml states {stated:g}, the limit is {MOST_SECONDS}"


def cells(page: Page) -> tuple[tuple[str, bool], ...]:
    """The code cells as `probe` takes them: each source, and whether it may raise."""
    return tuple((cell.source, "raises-exception" in cell.metadata.get("tags", [])) for cell in page.code)


# ---- predictions, ticket, hints --------------------------------------------------------------------------


@rule("lessons", start=False)
def predictions_precede(page: Page) -> Iterator[str]:
    """Each prediction stands before the cell that computes its outcome, and the ticket scores it."""
    asked = {_id(call): i for i, call in calls(page, "predict")}
    outcomes = _outcomes(page)
    if not asked:
        yield "it asks for no prediction"
    for identifier in sorted(set(asked) ^ set(outcomes)):
        yield f"prediction {identifier!r} is {'not scored' if identifier in asked else 'not asked'}"
    for identifier in sorted(set(asked) & set(outcomes)):
        names = {node.id for node in ast.walk(outcomes[identifier]) if isinstance(node, ast.Name)}
        computed = [i for name in names for i, _ in _assigned(page).get(name, ())]
        if max(computed, default=-1) <= asked[identifier]:
            yield f"the outcome of prediction {identifier!r} is not computed in a cell after the prediction"


@rule("lessons", start=False)
def three_questions(page: Page) -> Iterator[str]:
    """One exit ticket, of three questions, stored unanswered."""
    found = [call for _, call in calls(page, "ticket")]
    answers = [ast.unparse(k.value) for call in found for k in call.keywords if k.arg == "answers"]
    if answers != [f"[{', '.join(['None'] * QUESTIONS)}]"]:
        yield f"it has {len(found)} tickets with answers {answers}; expected one, answers=[None, None, None]"


@rule("exercises")
def three_hints(page: Page) -> Iterator[str]:
    """Three folded hints an exercise, before the cell that grades it."""
    hints = 0
    for cell in page.notebook.cells:
        hints += cell.source.count("<details>") if cell.cell_type == "markdown" else 0
        graded = cell.metadata.get("nbgrader", {})
        if graded.get("grade"):
            if hints != HINTS:
                yield f"{graded.grade_id} has {hints} folded hints; expected {HINTS}"
            hints = 0


# ---- reading code ----------------------------------------------------------------------------------------


def calls(page: Page, name: str) -> list[tuple[int, ast.Call]]:
    """The calls of the function `name`, each with the position of its cell in the notebook."""
    found = []
    for i, tree in _trees(page):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _called(node) == name:
                found.append((i, node))
    return found


def _trees(page: Page) -> Iterator[tuple[int, ast.Module]]:
    for i, cell in enumerate(page.notebook.cells):
        if cell.cell_type == "code":
            yield i, ast.parse(cell.source)


def _called(call: ast.Call) -> str:
    """The last name of what is called: `claim` for `course.claim`."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _id(call: ast.Call) -> str:
    first = [*call.args[:1], *(k.value for k in call.keywords if k.arg == "id")]
    return str(ast.literal_eval(first[0])) if first and isinstance(first[0], ast.Constant) else ""


def _outcomes(page: Page) -> dict[str, ast.expr]:
    """The expressions that the ticket scores predictions with."""
    tables = [k.value for _, call in calls(page, "ticket") for k in call.keywords if k.arg == "outcomes"]
    entries = (pair for t in tables if isinstance(t, ast.Dict) for pair in zip(t.keys, t.values, strict=True))
    return {key.value: value for key, value in entries if isinstance(key, ast.Constant)}


def _assigned(page: Page) -> dict[str, list[tuple[int, ast.expr | None]]]:
    """For each name that the notebook binds: where, and to which expression (None: by a loop or the like)."""
    values: dict[str, list[tuple[int, ast.expr | None]]] = {}
    for i, tree in _trees(page):
        for node in ast.walk(tree):
            value = (
                node.value
                if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr)
                else None
            )
            targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
            if isinstance(node, ast.withitem):
                targets = [node.optional_vars]
            for target in (t for t in targets if isinstance(t, ast.AST)):
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        values.setdefault(name.id, []).append((i, value))
    return values


def _computed(
    node: ast.AST, values: dict[str, list[tuple[int, ast.expr | None]]], seen: frozenset[str]
) -> bool:
    """Whether an expression comes from a call that computes, directly or through the names in it."""
    if isinstance(node, ast.Call) and _called(node) not in DRESSING:
        return True
    if isinstance(node, ast.Name) and node.id in values and node.id not in seen:
        return any(v is None or _computed(v, values, seen | {node.id}) for _, v in values[node.id])
    return any(_computed(child, values, seen) for child in ast.iter_child_nodes(node))
