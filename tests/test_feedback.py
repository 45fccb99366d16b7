"""What a learner reads: the check prints itself, never raises, and names what can be named."""

import numpy as np
import pytest
import torch

from hesslab.checks.laws.feedback import Feedback, check, differs, numbers


@check
def check_square(square, rng):
    x = rng.standard_normal(3)
    yield differs(
        square(x),
        x**2,
        law="square(x) = x²",
        case="three numbers",
        advice="Section 1.",
        mistakes={"double": (2 * x, "This is 2 x.")},
    )


def judged(square, capsys):
    feedback = check_square(square)
    assert capsys.readouterr().out == feedback.text + "\n"
    return feedback


def test_right_answers_pass_in_any_kind_of_array(capsys):
    for square in (
        lambda x: x**2,
        lambda x: [y * y for y in x],
        lambda x: torch.tensor(x, requires_grad=True) ** 2,
        lambda x: [torch.tensor(y, requires_grad=True) ** 2 for y in x],
        lambda x: (x**2).astype(np.float32),
    ):
        assert judged(square, capsys) == Feedback("square", True, True, "", "square: passed.")


def test_a_blank_is_not_attempted_and_says_what_may_be_left_over(capsys):
    def square(x):
        raise NotImplementedError

    feedback = judged(square, capsys)
    assert (feedback.passed, feedback.attempted, feedback.diagnosis) == (False, False, "not-attempted")
    assert "a line `raise NotImplementedError` is still in it" in feedback.text


@pytest.mark.parametrize(
    ("square", "diagnosis", "words"),
    [
        (lambda x: None, "returns-nothing", "has no `return`"),
        (lambda x: x[0] ** 2, "shape", "Return an array of shape (3,)"),
        (lambda x: x / 0 * np.inf if x.any() else x, "not-finite", "NaN or infinity"),
        (lambda x: 2 * x, "double", "This is 2 x."),
        (lambda x: x**2 + np.eye(3)[1], "value", "entry [1] is"),
        (lambda x: undefined, "raises", "NameError: name 'undefined'"),  # noqa: F821
        (lambda x: exit(), "raises", "SystemExit"),
        (lambda x: "four", "not-numbers", "a str that holds other things"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_mistakes_are_named(square, diagnosis, words, capsys):
    feedback = judged(square, capsys)
    assert (feedback.passed, feedback.attempted, feedback.diagnosis) == (False, True, diagnosis)
    assert words in feedback.text
    assert feedback.text.startswith("square: not yet.")


def test_the_line_that_raised_is_shown(capsys):
    def square(x):
        return x @ np.eye(4)

    assert "line:  return x @ np.eye(4)" in judged(square, capsys).text


def test_a_number_is_asked_for_as_a_number():
    violation = differs(np.ones(1), 1.0, law="l", case="c", advice="a")
    assert violation.advice == "Return a number. a"


def test_a_wrong_answer_is_wrong_at_any_scale():
    for scale in (1e-13, 1.0, 1e8):
        assert differs(scale, scale, law="l", case="c", advice="a") is None
        assert differs(1.01 * scale, scale, law="l", case="c", advice="a").diagnosis == "value"


def test_ctrl_c_goes_through():
    def square(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_square(square)


def test_numbers_refuses_what_is_none():
    with pytest.raises((TypeError, ValueError)):
        numbers("many")


@pytest.mark.parametrize("answer", [(5.0, np.ones(3)), "five", {"a": 1.0}], ids=repr)
def test_what_holds_no_numbers_is_said(answer):
    seen = differs(answer, np.ones(3), law="f(x) = 1", case="x = 0", advice="Section 1.")
    assert seen.diagnosis == "not-numbers"
    assert seen.advice == "Return numbers. Section 1."
