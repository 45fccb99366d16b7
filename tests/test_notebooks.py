"""What nbval does not see in the built notebooks: every rule over each, and a bad notebook for every rule.

The rules are in `authoring/rules.py` and `authoring/form.py`; strict nbval itself is run by `lab.py test`.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from nbformat import v4
from specimen import (
    CARD,
    MEASURE,
    PREDICT,
    PROSE,
    TICKET,
    code,
    exercises,
    figure,
    lesson,
    printed,
    text,
    with_minutes,
)

from authoring import form, probe, rules
from authoring.manifest import read
from hesslab import course
from hesslab.course import claim

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(
    p for folder in ("lessons", "solutions", "exercises") for p in (ROOT / folder).glob("*.ipynb")
)
BOUND = [
    (path, name)
    for path in NOTEBOOKS
    for name, rule in rules.RULES.items()
    if rule.binds(path.parent.name, path.stem)
]


@functools.cache
def built(path):
    return rules.page(path, read(ROOT))


def shown(value):
    return f"{value.parent.name}/{value.stem}" if isinstance(value, Path) else value


@pytest.mark.parametrize(("path", "name"), BOUND, ids=shown)
def test_keeps_the_rule(path, name):
    assert list(rules.RULES[name].judge(built(path))) == []


def test_the_course_computes_in_eight_minutes():
    pages = [built(path) for path in NOTEBOOKS if path.parent.name == "lessons"]
    seconds = [probe.probe(form.cells(page))["seconds"] for page in pages]
    assert sum(seconds) <= min(480, 30 * max(len(seconds), 2))


# ---- a notebook planted for every rule ------------------------------------------------------------------


def stores(line):
    """Plant a text in the outputs of a code cell."""
    return lambda page: page.code[5].outputs.append(printed(line))


def stores_output(kind, **fields):
    return lambda page: page.code[5].outputs.append(v4.new_output(kind, **fields))


def replaces(old, new):
    """Plant another text in the sources of the cells."""

    def change(page):
        assert any(old in cell.source for cell in page.notebook.cells)
        for cell in page.notebook.cells:
            cell.source = cell.source.replace(old, new)

    return change


def adds(*cells, at=3):
    """Plant cells."""

    def change(page):
        page.notebook.cells[at:at] = cells

    return change


def sets(**fields):
    return lambda page: dataclasses.replace(page, **fields)


def count(page):
    page.code[4].execution_count = None


def swap(page):
    page.code[4].execution_count, page.code[5].execution_count = 6, 5


def move_prediction(page):
    cells = page.notebook.cells
    place = next(i for i, cell in enumerate(cells) if cell.source == PREDICT)
    cells.insert(len(cells) - 2, cells.pop(place))


def drop_outputs(page):
    for cell in page.code:
        cell.outputs = [figure()]


def drop_last(page):
    del page.notebook.cells[8:]


def meta(**fields):
    return lambda page: page.notebook.metadata.update(fields)


LONG = "\n".join(f"x{i} = {i}" for i in range(21))
PLANTED = {
    "executed_in_order": [count, swap],
    "not_executed": [
        lambda page: page.code[0].update(execution_count=1),
        lambda page: page.code[0].outputs.append(printed("x")),
    ],
    "canonical": [
        *(meta(widgets={}), meta(kernelspec={"name": "conda"}), meta(language_info={"version": "3"})),
        lambda page: page.notebook.cells[2].metadata.update(execution={}),
    ],
    "one_title": [adds(text("# Another title"), at=9), replaces("# 01 · One", "One"), adds(text("x"), at=0)],
    "no_errors": [stores_output("error", ename="ValueError", evalue="no", traceback=[])],
    "no_stderr": [stores_output("stream", name="stderr", text="UserWarning")],
    "only_text_and_png": [
        stores_output("display_data", data={"text/html": "<b>x</b>", "text/plain": "x"}),
        stores_output("display_data", data={"image/svg+xml": "<svg/>"}),
    ],
    "rounded_numbers": list(
        map(stores, ["0.123456789", "x = 1.23456e-05", "1234567.8901", "2.2e-16", "1e-300"])
    ),
    "no_minus_zero": list(map(stores, ["x is -0.00", "[-0. 1.]", "-0.0", "(-0, 1)"])),
    "no_reprs": list(
        map(
            stores,
            [
                *(
                    "array([1., 2.])",
                    "tensor([1.])",
                    "np.float64(1.0)",
                    "x dtype=float32",
                    "Estimate(value=1)",
                ),
                *("<object at 0x7f0>", "<hesslab.lanczos.X object at y>"),
            ],
        )
    ),
    "no_times": list(map(stores, ["took 1.2 s", "3 ms", "1.5e-3 ms", "10 it/s", "at 12:30", "2026-11-24"])),
    "no_paths": list(map(stores, ["in /tmp/x.py", f"/{'home'}/me", "C:\\Users", "lib/site-packages/x"])),
    "no_addresses": list(map(stores, ["at 0x7f3a2c001d30"])),
    "figures_have_alt_text": [
        lambda page: page.code[5].outputs.append(figure("a plot")),
        stores_output("display_data", data={"image/png": "x"}),
    ],
    "alt_texts_are_unique": [lambda page: page.code[5].outputs.append(figure())],
    "small_file": [sets(size=1_500_001)],
    "no_semicolons": [replaces(MEASURE, MEASURE + ";"), replaces(MEASURE, MEASURE + ";  # x")],
    "number_of_cells": [drop_last, adds(*[text(PROSE)] * 40)],
    "prose_and_code": [
        replaces("words", ""),
        replaces(PROSE, 2 * PROSE),
        replaces(PROSE, f"```\n{PROSE}\n```"),
    ],
    "short_code_cells": [replaces(MEASURE, LONG), replaces("print(b)", "print(\nb\n\n)\n# one\n# two")],
    "eight_numbers": [drop_outputs],
    "claims_have_cards": [
        *(
            replaces("a is one", "a is three"),
            replaces(CARD, "a = a"),
            replaces('claim("1.1"', 'claim("1.2"'),
        ),
        lambda page: page.notebook.cells.reverse(),
    ],
    "cards_are_claims": [
        adds(code('claim("9.9", a, expected=1, tolerance=1)')),
        adds(text("> **Claim 9.9.** x")),
    ],
    "measured_is_computed": [
        *(
            replaces(CARD, f'claim("1.1", {m}, expected=1, tolerance=1)')
            for m in ("1.0", "float(1)", "[1.0, 2.0]")
        ),
        replaces(MEASURE, "a = 1.0"),
        replaces(MEASURE, "c = 1\na = c / 2"),
        replaces(MEASURE, "a = round(1.04, 1)"),
    ],
    "cards_can_fail": [
        replaces(CARD, 'claim("1.1", a, holds=lambda m: True)'),
        replaces(CARD, 'if a > 2:\n    claim("1.1", a, expected=1, tolerance=0.1)'),
    ],
    "within_its_time": [lambda page: with_minutes(page, 0.001)],
    "predictions_precede": [
        *(move_prediction, replaces(PREDICT, "a = 1"), replaces('{"a": (a, 0.1)}', "{}")),
        *(replaces('"a": (a,', '"b": (a,'), replaces("(a, 0.1)", "(1.0, 0.1)")),
    ],
    "three_questions": [
        *(replaces(TICKET, "a = a"), replaces("[None, None, None]", "[None, None]"), adds(code(TICKET))),
        replaces("[None, None, None]", "[0, 1, 0]"),
    ],
    "three_hints": [replaces("<details>", "<p>"), adds(text("<details>x</details>"), at=1)],
}


def planted(name, change):
    page = exercises() if rules.RULES[name].folders == ("exercises",) else lesson()
    return change(page) or page


@pytest.mark.parametrize("name", rules.RULES)
def test_every_rule_refuses_what_is_planted_for_it(name):
    for change in PLANTED[name]:
        assert list(rules.RULES[name].judge(planted(name, change)))


def test_nothing_is_planted_for_a_rule_that_is_gone():
    assert set(PLANTED) == set(rules.RULES)


@pytest.mark.parametrize("name", rules.RULES)
def test_the_specimen_keeps_every_rule(name):
    for page in (lesson(), exercises()):
        if rules.RULES[name].binds(page.folder, "01_one"):
            assert list(rules.RULES[name].judge(page)) == []


@pytest.mark.parametrize(
    "line",
    [
        *(
            "loss 0.1234 after 200 steps",
            "3.2e-05",
            "1e-12",
            "±0.01",
            "1 200",
            "k = 5 s.e.",
            "10 samples",
            "-0.05",
        ),
        *("eigsh(A, k=5) took 30 products", "a 2 x 2 block", "1.5 standard errors", "12.5 %", "shape (3, 4)"),
    ],
)
def test_good_text_is_refused_by_no_rule(line):
    page = planted("no_times", stores(line))
    found = {
        n: list(r.judge(page))
        for n, r in rules.RULES.items()
        if n not in ("cards_can_fail", "within_its_time")
    }
    assert not any(found[name] for name in found if "lessons" in rules.RULES[name].folders)


def test_lesson_00_is_exempt_from_the_form_but_not_from_what_is_stored():
    assert not rules.RULES["number_of_cells"].binds("lessons", "00_start")
    assert rules.RULES["number_of_cells"].binds("lessons", "01_one")
    assert rules.RULES["rounded_numbers"].binds("lessons", "00_start")
    assert not rules.RULES["number_of_cells"].binds("solutions", "01_one")


def test_an_error_may_be_stored_where_the_cell_is_tagged_for_it():
    page = planted("no_errors", PLANTED["no_errors"][0])
    page.code[5].metadata["tags"] = ["raises-exception"]
    assert list(rules.RULES["no_errors"].judge(page)) == []


# ---- pushing a card ------------------------------------------------------------------------------------

CARDS_THAT_NOTICE = [
    (1.0, {"expected": 1, "tolerance": 0.1}),
    (3e-14, {"expected": 0, "tolerance": 1e-12}),
    (1e8, {"expected": 1e8, "tolerance": 1e-9}),
    (True, {"expected": True, "tolerance": 0}),
    (4, {"expected": 4, "tolerance": 0}),
    ([1.0, 2.0], {"expected": [1, 2], "tolerance": 0.1}),
    (np.array([1.0, 1.0]), {"expected": 1, "tolerance": 0.1}),
    (np.float32(2), {"holds": lambda m: m > 0}),
    (np.array([3.0, 1.0]), {"holds": lambda m: m.argmax() == 0}),
    (torch.tensor([3.0, 1.0]), {"holds": lambda m: m.max() > 2}),
    ((1, 2), {"holds": lambda m: m[0] < m[1]}),
    (np.bool_(True), {"holds": lambda m: m}),
    (1e-9, {"holds": lambda m: m < 1e-6}),
    (7, {"holds": lambda m: m != 0}),
    (0.5, {"holds": lambda m: 0.4999 < m < 0.5001}),
]
CARDS_THAT_DO_NOT = [
    (1.0, {"holds": lambda m: True}),
    (1.0, {"holds": lambda m: m == m}),
    ([1.0, 2.0], {"holds": lambda m: len(m) == 2}),
]


@pytest.mark.parametrize(("measured", "conditions"), CARDS_THAT_NOTICE)
def test_a_card_that_judges_its_value_notices_a_push(measured, conditions):
    assert list(probe.unnoticed(claim, "1", measured, conditions)) == []


@pytest.mark.parametrize(("measured", "conditions"), CARDS_THAT_DO_NOT)
def test_a_card_that_judges_nothing_is_told(measured, conditions):
    assert list(probe.unnoticed(claim, "1", measured, conditions)) == [
        "claim 1: its condition holds for every number tried; it cannot fail"
    ]


def test_each_number_is_pushed_up_and_down():
    def careless(id, measured, expected, tolerance):
        assert measured[0] <= expected[0] + tolerance

    told = list(probe.unnoticed(careless, "1", [1.0, 2.0], {"expected": [1.0, 2.0], "tolerance": 0.1}))
    assert [line.split(",")[0] for line in told] == [
        *("claim 1: holds even at -1e-06", "claim 1: holds even at 3", "claim 1: holds even at 0.999998")
    ]


def test_a_lesson_that_fails_or_ends_its_process_is_told():
    assert probe.run((("1 / 0", True), ("1 / 0", False)))["problems"] == [
        "code cell 2 raised ZeroDivisionError: division by zero"
    ]
    assert course.claim is claim
    assert probe.probe((("import os; os._exit(3)", False),))["problems"] == ["the process ended: "]
