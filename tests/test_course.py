"""What lessons show: cards that assert, text without unstable digits, predictions and tickets that score."""

import doctest
import json
import math
import re

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient

from hesslab import course
from hesslab.checks.laws import rounding, ticket
from hesslab.checks.laws.ticket import Question

# What the house refuses in stored text: five decimals, addresses, minus zero, reprs of NumPy.
UNSTABLE = re.compile(r"\d\.\d{5,}|0x[0-9a-f]{6,}|-0\.?0*(?![\d.])|np\.|tensor|nan|inf")


@pytest.fixture(autouse=True)
def arithmetic_as_it_was():
    before = torch.get_default_dtype(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    course._predictions.clear()
    yield
    torch.set_default_dtype(before[0])
    torch.set_num_threads(before[1])
    torch.use_deterministic_algorithms(before[2])
    course._predictions.clear()


@pytest.fixture
def shown(monkeypatch):
    """The cards shown so far, as pairs (line, what the scoreboard reads)."""
    cards = []
    monkeypatch.setattr(course, "_publish", lambda line, data: cards.append((line, data["hesslab"]["claim"])))
    return cards


@pytest.mark.parametrize("module", [course, rounding, ticket], ids=lambda m: m.__name__)
def test_examples(module):
    assert doctest.testmod(module).failed == 0


# start


def test_start_sets_the_arithmetic_and_seeds_nothing(capsys):
    course.predict("a", "How many?")
    random_state = torch.get_rng_state()
    for _ in range(2):
        course.start(threads=2)
    assert torch.get_default_dtype() == torch.float64
    assert torch.get_num_threads() == 2
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not course._predictions
    capsys.readouterr()
    course.start()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("threads", [0, -1, 1.0, True, "1"])
def test_start_refuses(threads):
    with pytest.raises(ValueError, match=r"threads is .*; expected a positive integer, such as 1"):
        course.start(threads)


# claim: the two forms, and what they assert


@pytest.mark.parametrize(
    "measured", [0.5, 1, True, np.float32(0.5), np.float64(0.5), np.int64(1), np.True_, torch.tensor(0.5)]
)
def test_a_scalar_of_any_kind_is_judged(measured, shown):
    course.claim("1.1", measured, expected=0.5, tolerance=0.5)
    course.claim("1.1", measured, holds=lambda m: m > 0)
    with pytest.raises(
        AssertionError, match=r"card 1\.1 does not hold: measured .*, expected -5 ± 0\.5; it is off by \d"
    ):
        course.claim("1.1", measured, expected=-5, tolerance=0.5)
    with pytest.raises(
        AssertionError, match=r"card 1\.1 does not hold: measured .* fails the card's condition"
    ):
        course.claim("1.1", measured, holds=lambda m: m < 0)
    assert len(shown) == 2
    assert all(card["verdict"] == "holds" and card["id"] == "1.1" for _, card in shown)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_every_component_of_a_row_is_judged(kind, shown):
    measured = kind([1.0, 2.0, 3.0])
    course.claim("1.2", measured, expected=[1, 2, 3], tolerance=0.01)
    course.claim("1.2", measured, expected=2, tolerance=1)
    course.claim("1.2", measured, holds=lambda m: m[0] < m[2])
    for component in range(3):
        pushed = np.array([1.0, 2.0, 3.0])
        pushed[component] += 0.02
        with pytest.raises(AssertionError, match=r"card 1\.2 does not hold: measured \(.*\), expected"):
            course.claim("1.2", kind(pushed.tolist()), expected=[1, 2, 3], tolerance=0.01)
    assert [line.split("measured ")[1] for line, _ in shown] == [
        "(1.00, 2.00, 3.00), expected (1, 2, 3) ± 0.01",
        "(1, 2, 3), expected 2 ± 1",
        "(1.00, 2.00, 3.00)",
    ]
    assert shown[0][1]["value"] == [1, 2, 3]


def test_a_tensor_that_requires_a_gradient_is_read(shown):
    course.claim("1.3", torch.tensor([1.0], requires_grad=True), holds=lambda m: (m > 0).all())
    assert shown[0][0] == "card 1.3 holds: measured (1.00)"


@pytest.mark.parametrize("measured", [math.nan, math.inf, -math.inf, [1.0, math.nan]])
@pytest.mark.parametrize("form", [{"expected": 1, "tolerance": 1}, {"holds": lambda m: True}])
def test_what_is_not_finite_supports_nothing(measured, form, shown):
    with pytest.raises(AssertionError, match=r"card 1\.1 does not hold: .*expected finite numbers"):
        course.claim("1.1", measured, **form)
    assert not shown


@pytest.mark.parametrize("seed", range(20))
def test_a_card_holds_up_to_its_tolerance_and_no_further(seed, shown):
    rng = np.random.default_rng(seed)
    expected, tolerance = rng.standard_normal() * 10 ** rng.uniform(-6, 6), 10 ** rng.uniform(-9, 3)
    for sign in (-1, 1):
        course.claim("1.1", expected + 0.99 * sign * tolerance, expected=expected, tolerance=tolerance)
        with pytest.raises(AssertionError):
            course.claim("1.1", expected + 1.01 * sign * tolerance, expected=expected, tolerance=tolerance)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"expected": 1},
        {"tolerance": 1},
        {"expected": 1, "tolerance": 1, "holds": bool},
        {"expected": 1, "holds": bool},
        {"tolerance": 1, "holds": bool},
    ],
)
def test_a_card_has_one_form(form):
    with pytest.raises(ValueError, match=r"claim 1\.1 needs expected and tolerance together, or holds alone"):
        course.claim("1.1", 1.0, **form)


@pytest.mark.parametrize("measured", ["1", None, 1j, [], [1.0] * 7, [[1.0]], np.zeros((2, 2)), {"a": 1}])
def test_what_is_no_number_is_refused(measured):
    with pytest.raises(
        TypeError, match=r"measured is of type .*; expected a number, a bool, or 1 to 6 numbers"
    ):
        course.claim("1.1", measured, holds=lambda m: True)


def test_what_a_card_refuses_in_its_expectation():
    with pytest.raises(TypeError, match=r"expected is of type str"):
        course.claim("1.1", 1.0, expected="1", tolerance=0)
    with pytest.raises(ValueError, match=r"claim 1\.1 has 2 numbers measured and 3 expected"):
        course.claim("1.1", [1.0, 2.0], expected=[1, 2, 3], tolerance=0)
    for expected, tolerance in (
        (math.nan, 1),
        (math.inf, 1),
        (1, -1),
        (1, math.nan),
        (1, math.inf),
        (1, [1, 1]),
    ):
        with pytest.raises(ValueError, match="expected finite numbers, and one tolerance, 0 or more"):
            course.claim("1.1", 1.0, expected=expected, tolerance=tolerance)
    for wrong in (lambda m: None, lambda m: m, lambda m: "yes", lambda m: bool):
        with pytest.raises(
            TypeError, match=r"holds returned .*; expected True or False, computed from measured"
        ):
            course.claim("1.1", 1.0, holds=wrong)


# claim: what it shows


@pytest.mark.parametrize(
    ("measured", "expected", "tolerance", "line", "value", "error"),
    [
        (0.011234, 0.0112, 0.0002, "measured 0.0112, expected 0.0112 ± 0.0002", 0.0112, 0.0002),
        (37.61, 38, 2, "measured 38, expected 38 ± 2", 38, 2),
        (1234.6, 1234, 20, "measured 1235, expected 1234 ± 20", 1235, 20),
        (9, 9, 0, "measured 9, expected 9 exactly", 9, 0),
        (True, True, 0, "measured true, expected true exactly", True, 0),
        (1 / 3, 1 / 3, 1e-12, "measured 0.3333, expected 0.3333 ± 1e-12", 0.3333, 1e-12),
        (3e-16, 0, 1e-12, "measured 0 to within 1e-12, expected 0", 0, 1e-12),
        ([3e-16, -9e-13], 0.0, 1e-12, "measured 0 to within 1e-12, expected 0", 0, 1e-12),
        (-1e-17, 0.0, 0.01, "measured 0.00, expected 0.00 ± 0.01", 0, 0.01),
        ([1.0, 1e-17], [1, 0], 1e-9, "measured (1.0000, 0.0000), expected (1, 0) ± 1e-9", [1, 0], 1e-9),
        (3.21e-7, 3.2e-7, 2e-8, "measured 3.2e-7, expected 3.2e-7 ± 2e-8", 3.2e-7, 2e-8),
        (1.5e7, 1.5e7, 1e3, "measured 1.5000e7, expected 1.5000e7 ± 1000", 1.5e7, 1e3),
        (1000000.6, 999999.0, 2, "measured 1.0000e6, expected 999999 ± 2", 1e6, 2),
        (0.5, 0.25, 0.25, "measured 0.5, expected 0.3 ± 0.25", 0.5, 0.25),
        (0.5, 0.5, 0.00023456, "measured 0.5000, expected 0.5000 ± 2.3e-4", 0.5, 2.3e-4),
        (0.5, 0.5, 0.00025, "measured 0.5000, expected 0.5000 ± 2.5e-4", 0.5, 2.5e-4),
        (0.0, 0.0, 1e-320, "measured 0 to within 0, expected 0", 0, 0),
    ],
)
def test_a_card_shows_what_its_tolerance_resolves(measured, expected, tolerance, line, value, error, shown):
    course.claim("1.1", measured, expected=expected, tolerance=tolerance)
    assert shown == [
        (f"card 1.1 holds: {line}", {"id": "1.1", "value": value, "error": error, "verdict": "holds"})
    ]


@pytest.mark.parametrize(
    ("measured", "text", "value", "error"),
    [
        (12.5, "12.5", 12.5, None),
        (0.0123456, "0.0123", 0.0123, None),
        (0.00123456, "0.0012", 0.0012, None),
        (0.000123456, "1.2e-4", 1.2e-4, None),
        (-3.21e-7, "-3.2e-7", -3.2e-7, None),
        (2e-16, "0 to within 1e-10", 0, 1e-10),
        (-0.0, "0 to within 1e-10", 0, 1e-10),
        (123456.7, "123457", 123457, None),
        (1234567.0, "1.23e6", 1230000, None),
        (1048576, "1048576", 1048576, None),
        (True, "true", True, None),
        ([3e4, 2.0, 1e-8], "(30000, 2.00, 0)", [30000, 2, 0], None),
    ],
)
def test_a_card_without_tolerance_shows_three_digits(measured, text, value, error, shown):
    course.claim("1.1", measured, holds=lambda m: True)
    expected = {"id": "1.1", "value": value, "error": error, "verdict": "holds"}
    assert shown == [(f"card 1.1 holds: measured {text}", expected)]


def test_a_number_that_varies_is_not_shown(shown):
    for measured in (1.71, 2.0, 2.29):
        course.claim("7.1", measured, expected=2.0, tolerance=0.3, varies=True)
        course.claim("7.2", measured, holds=lambda m: m > 1, varies=True)
    lines = [line for line, _ in shown]
    assert lines == 3 * ["card 7.1 holds: measured within 0.3 of 2.0", "card 7.2 holds: measured as stated"]
    assert shown[0][1]["value"] == 2.0
    assert shown[1][1]["value"] is None
    with pytest.raises(AssertionError, match=r"card 7\.1 does not hold: measured 2\.31, expected 2 ± 0\.3"):
        course.claim("7.1", 2.31, expected=2.0, tolerance=0.3, varies=True)


def noisy(number):
    """`number` as another processor may compute it: an ulp away, and 1e-12 away."""
    ulps = [math.nextafter(number, math.inf), math.nextafter(number, -math.inf)]
    return [number, *ulps, number * (1 + 1e-12), number * (1 - 1e-12)]


def line_of(shown, *args, **kwargs):
    course.claim("1.1", *args, **kwargs)
    return shown.pop()[0]


def test_noise_of_rounding_does_not_change_the_text_of_any_number(shown):
    rng = np.random.default_rng(0)
    for _ in range(1000):
        number = float(rng.choice([-1, 1]) * 10 ** rng.uniform(-9, 9))
        tolerance = abs(number) * float(10 ** rng.uniform(-11, 1))
        close = number + 0.5 * tolerance * rng.uniform(-1, 1)
        cards = {
            line_of(shown, each, expected=number, tolerance=bound)
            for each in noisy(close)
            for bound in noisy(tolerance)
        }
        texts = {line_of(shown, each, holds=lambda m: True) for each in noisy(number)}
        assert len(cards) == len(texts) == 1
        assert not UNSTABLE.search(" ".join(cards | texts))


@pytest.mark.parametrize("decimals", range(6))
def test_noise_does_not_change_the_text_of_exact_answers(decimals, shown):
    """Short decimals lie on the boundaries of rounding to nearest, for some number of digits."""
    for numerator in [1, 5, 15, 25, 45, 105, 125, 375, 995, 1005, 4995, 9995, 99995, 99999]:
        number = numerator / 10**decimals
        for bound in (1.0, 0.1, 0.01, 0.001, 3 * 0.1, 0.1 + 0.2):
            cards = {
                line_of(shown, e, expected=number, tolerance=b) for e in noisy(number) for b in noisy(bound)
            }
            assert len(cards) == 1
        assert len({line_of(shown, each, holds=lambda m: True) for each in noisy(number)}) == 1


def test_noise_about_zero_does_not_change_the_text(shown):
    rng = np.random.default_rng(1)
    for form in ({"expected": 0, "tolerance": 1e-12}, {"expected": 0.0, "tolerance": 0.02}, {"holds": bool}):
        form = {**form, "holds": lambda m: True} if "holds" in form else form
        cards = {line_of(shown, 1e-13 * rng.standard_normal(), **form) for _ in range(100)}
        assert len(cards) == 1
        assert not UNSTABLE.search(cards.pop())


def test_what_is_shown_is_near_what_was_measured(shown):
    """The boundaries differ from those of rounding to nearest by less than a thousandth of the last digit."""
    rng = np.random.default_rng(2)
    for number in rng.standard_normal(500) * 10 ** rng.uniform(-3, 5, 500):
        for place in (0, -1, -2, -3, -4):
            text = rounding.rounded(number, place)
            assert abs(float(text) - number) <= 0.501 * 10.0**place
            assert len(text.partition(".")[2]) == -place


# predict


def test_a_prediction_is_asked_recorded_and_replaced(capsys):
    course.predict("rate", "Which is faster?", ["plain", "heavy ball", "both alike"])
    assert capsys.readouterr().out == (
        "Prediction rate. Which is faster?\n   0  plain\n   1  heavy ball\n   2  both alike\n"
        "Not recorded: write answer=0, 1 or 2 and run the cell again.\n"
    )
    for answer in (0, np.int64(2), torch.tensor(1)):
        course.predict("rate", "Which is faster?", ["plain", "heavy ball", "both alike"], answer=answer)
        assert capsys.readouterr().out.endswith(f"Recorded: {int(answer)}.\n")
    assert course._predictions["rate"].answer == 1
    course.predict("rate", "Which is faster?", ["plain", "heavy ball"])
    assert course._predictions["rate"].answer is None
    course.predict("steps", "How many?")
    assert "write answer=… (a number)" in capsys.readouterr().out


@pytest.mark.parametrize("answer", [2, -1, "0", 0.0, True, [0]])
def test_predict_refuses_what_is_no_choice(answer):
    with pytest.raises(ValueError, match=r"answer of prediction rate is .*; expected .* a choice, 0 or 1"):
        course.predict("rate", "Which?", ["a", "b"], answer=answer)
    assert "rate" not in course._predictions


@pytest.mark.parametrize("answer", ["2.5", math.nan, math.inf, True, [1.0], 1j])
def test_predict_refuses_what_is_no_number(answer):
    with pytest.raises(
        ValueError, match=r"answer of prediction steps is .*; expected a finite number, such as"
    ):
        course.predict("steps", "How many?", answer=answer)


@pytest.mark.parametrize("choices", [[], ["only"], "ab"])
def test_predict_refuses_too_few_choices(choices):
    with pytest.raises(ValueError, match=r"choices of prediction rate is .*; expected at least two texts"):
        course.predict("rate", "Which?", choices)


# ticket


TICKET = tuple(
    Question(
        f"q{i}",
        f"Text {i}?",
        ("first", "second", "third"),
        i,
        {j: f"You mixed {i} with {j}." for j in others},
    )
    for i, others in enumerate([(1, 2), (0, 2), (0, 1)])
)


@pytest.mark.parametrize(
    "answers", [(a, b, c) for a in (None, 0, 1) for b in (None, 1, 2) for c in (None, 0, 2)]
)
def test_a_ticket_gives_each_answer_its_verdict(answers, capsys):
    assert course.ticket(TICKET, answers) is None
    *parts, end = capsys.readouterr().out.split("\n\n")
    for right, (part, answer) in enumerate(zip(parts, answers, strict=True)):
        said = part.splitlines()[4:]
        if answer is None:
            assert said == ["Not answered."]
        elif answer == right:
            assert said == [f"You chose {answer}. Right."]
        else:
            assert said == [f"You chose {answer}. Not yet: You mixed {right} with {answer}."]
    assert end == f"Exit ticket: {sum(a == i for i, a in enumerate(answers))} of 3 right.\n"


def test_a_ticket_never_tells_the_right_choice(capsys):
    """Two tickets that differ only in the right choice read the same until it is chosen."""
    said = []
    for right in (0, 1):
        diagnoses = {j: "Reread section 2." for j in range(3) if j != right}
        course.ticket([Question("q", "Which?", ("a", "b", "c"), right, diagnoses)] * 2, [None, 2])
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


@pytest.mark.parametrize("answers", [[None] * 2, [None] * 4, []])
def test_a_ticket_refuses_another_number_of_answers(answers):
    with pytest.raises(ValueError, match=r"answers has \d entries for 3 questions; give one number for each"):
        course.ticket(TICKET, answers)


@pytest.mark.parametrize("answer", [3, -1, "0", 1.0, True])
def test_a_ticket_refuses_what_is_no_choice(answer):
    with pytest.raises(ValueError, match=r"the answer to question q1 is .*; expected .* a choice, 0, 1 or 2"):
        course.ticket(TICKET, [None, answer, None])


def test_a_question_refuses_to_leave_a_wrong_choice_without_diagnosis():
    for diagnoses in ({}, {1: "one"}, {0: "the right one", 1: "one", 2: "two"}, {1: "one", 3: "none"}):
        with pytest.raises(
            ValueError, match=r"question t has diagnoses for .*; expected one for every choice"
        ):
            Question("t", "Which?", ("a", "b", "c"), 0, diagnoses)
    with pytest.raises(
        ValueError, match=r"`right` of question t is 2; expected the number of a choice, 0 or 1"
    ):
        Question("t", "Which?", ("a", "b"), 2, {})
    with pytest.raises(ValueError, match=r"choices of question t is .*; expected at least two texts"):
        Question("t", "Which?", ("a",), 0, {})


def test_predictions_are_scored_and_nothing_is_told_where_none_was_made(capsys):
    choices = ["slower", "faster"]
    course.predict("right", "Momentum?", choices, answer=1)
    course.predict("wrong", "Nesterov?", choices, answer=0)
    course.predict("none", "Adam?", choices)
    course.predict("near", "How many?", answer=3)
    course.predict("far", "How far?", answer=3.5)
    course.predict("nothing", "How long?")
    capsys.readouterr()
    pairs = {"near": (3.14159, 0.2), "far": (np.float64(3.14159), 0.2), "nothing": (77.0, 1)}
    course.ticket((), [], {"right": 1, "wrong": np.int64(1), "none": torch.tensor(1), **pairs})
    out = capsys.readouterr().out
    assert out == (
        "Exit ticket: 0 of 0 right.\n"
        "\nPrediction right. Momentum?\nYou said 1. Right: the lesson measured 1, faster.\n"
        "\nPrediction wrong. Nesterov?\nYou said 0. Wrong: the lesson measured 1, faster.\n"
        "\nPrediction none. Adam?\nNot recorded.\n"
        "\nPrediction near. How many?\nYou said 3. Right: the lesson measured 3.1 ± 0.2.\n"
        "\nPrediction far. How far?\nYou said 3.5. Wrong: the lesson measured 3.1 ± 0.2.\n"
        "\nPrediction nothing. How long?\nNot recorded.\n"
        "\nPredictions: 2 right, 4 of 6 recorded.\n"
    )


def test_predictions_and_outcomes_match_one_to_one():
    course.predict("rate", "Which?", ["a", "b"])
    with pytest.raises(
        ValueError, match="outcomes has nothing for the prediction 'rate'; add what the lesson"
    ):
        course.ticket(TICKET, [None] * 3)
    with pytest.raises(
        ValueError, match="outcomes has 'steps', which no predict cell has asked; run that cell"
    ):
        course.ticket(TICKET, [None] * 3, {"rate": 0, "steps": (1, 1)})
    for outcome in (2, (1, 1), "a", None):
        with pytest.raises(
            ValueError, match=r"the outcome of prediction rate is .*; expected .* a choice, 0 or 1"
        ):
            course.ticket(TICKET, [None] * 3, {"rate": outcome})
    course.start()
    course.predict("steps", "How many?")
    for outcome in (3.0, (1.0, 2.0, 3.0), [1.0, 2.0]):
        with pytest.raises(ValueError, match=r"outcome of prediction steps is .*; expected a pair"):
            course.ticket(TICKET, [None] * 3, {"steps": outcome})


def test_printed_text_is_narrow(capsys):
    course.predict("p", "word " * 60, ["word " * 60, "word"], answer=0)
    course.ticket([Question("q", "word " * 60, ("word " * 60, "b"), 1, {0: "word " * 60})], [0], {"p": 1})
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


# In a notebook


@pytest.fixture(scope="module")
def notebook():
    cells = [
        "from hesslab.course import start, claim\nstart()",
        'claim("2.3", 0.011234, expected=0.0112, tolerance=0.0002)',
        'claim("2.4", [1.0, 2.0], holds=lambda m: m[0] < m[1])\nclaim("2.5", 3, expected=3, tolerance=0)',
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nb = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)), metadata=kernel)
    NotebookClient(nb, timeout=120).execute()
    return json.loads(nbformat.writes(nb))


def test_a_card_in_a_notebook_is_one_line_with_its_numbers_as_metadata(notebook):
    outputs = [output for cell in notebook["cells"] for output in cell["outputs"]]
    assert [output["output_type"] for output in outputs] == ["display_data"] * 3
    assert [list(output["data"]) for output in outputs] == [["text/plain"]] * 3
    assert ["".join(output["data"]["text/plain"]) for output in outputs] == [
        "card 2.3 holds: measured 0.0112, expected 0.0112 ± 0.0002",
        "card 2.4 holds: measured (1.00, 2.00)",
        "card 2.5 holds: measured 3, expected 3 exactly",
    ]
    assert [output["metadata"]["hesslab"]["claim"] for output in outputs] == [
        {"id": "2.3", "value": 0.0112, "error": 0.0002, "verdict": "holds"},
        {"id": "2.4", "value": [1.0, 2.0], "error": None, "verdict": "holds"},
        {"id": "2.5", "value": 3, "error": 0, "verdict": "holds"},
    ]


def test_a_card_outside_a_notebook_is_printed(capsys):
    course.claim("2.3", 0.011234, expected=0.0112, tolerance=0.0002)
    assert capsys.readouterr().out == "card 2.3 holds: measured 0.0112, expected 0.0112 ± 0.0002\n"
