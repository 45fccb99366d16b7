"""The teaching guides: one a lesson, their minutes add up, and what they name exists."""

import re
import tomllib
from pathlib import Path

import pytest

from authoring.manifest import read

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = read(ROOT)
LESSONS = {x.id: x for x in MANIFEST.lessons.values() if x.stands and x.exercises}
GUIDES = {path.name[:2]: path for path in sorted((ROOT / "docs" / "teaching").glob("[0-9][0-9]_*.md"))}
TO_COME = {"11", "12", "13", "14", "15"}  # a guide that has been written leaves this set


def text(identifier):
    return GUIDES[identifier].read_text(encoding="utf8")


def section(identifier, title):
    return text(identifier).split(f"## {title}\n")[1].split("\n## ")[0]


def rows(part):
    lines = [
        line.strip().removeprefix("|").removesuffix("|") for line in part.splitlines() if line[:1] == "|"
    ]
    return [[cell.strip() for cell in line.split("|")] for line in lines[2:]]  # without its head


def test_every_lesson_has_its_guide_but_those_to_come():
    assert set(LESSONS) - TO_COME <= set(GUIDES)
    assert not TO_COME & set(GUIDES), "take this lesson out of TO_COME"
    for identifier, path in GUIDES.items():
        assert path.stem == LESSONS[identifier].stem


@pytest.mark.parametrize("identifier", GUIDES)
def test_title_links_and_length(identifier):
    lesson, guide = LESSONS[identifier], text(identifier)
    assert guide.startswith(f"# {identifier} · {lesson.title}\n")
    for folder in ("lessons", "exercises"):
        assert f"(/{folder}/{lesson.stem}.ipynb)" in guide
    assert len(guide.splitlines()) <= 60


@pytest.mark.parametrize("identifier", GUIDES)
def test_objectives_are_those_of_the_lesson(identifier):
    named = re.findall(r"^- (\d\d\.\d) \S", section(identifier, "To reach"), re.MULTILINE)
    assert named == [objective.id for objective in LESSONS[identifier].objectives]


@pytest.mark.parametrize("identifier", GUIDES)
def test_one_derivation_stands_on_the_board(identifier):
    board = section(identifier, "On the board")
    assert board.count("**The derivation.**") == 1
    assert 5 <= len(re.findall(r"^\d\. ", board, re.MULTILINE)) <= 7


@pytest.mark.parametrize("identifier", GUIDES)
def test_minutes_add_up_to_what_is_said_and_to_the_manifest(identifier):
    part, minutes = section(identifier, "Minutes"), LESSONS[identifier].minutes
    *parts, (name, *stated) = rows(part)
    assert name == "all"
    sums = [sum(int(row[column]) for row in parts) for column in (1, 2)]
    assert sums == [int(each) for each in stated]
    said = re.search(
        r"(\d+) minutes in all: (\d+) of reading and running, (\d+) of discussion. "
        r"The exercises take (\d+) more.",
        part,
    )
    assert [int(each) for each in said.groups()] == [sum(sums), *sums, minutes["exercises"]]
    assert sums[0] == minutes["reading"]


@pytest.mark.parametrize("identifier", GUIDES)
def test_every_exercise_is_named_with_diagnoses_that_its_check_gives(identifier):
    bank = tomllib.loads((ROOT / "tests" / "bank" / f"{GUIDES[identifier].stem}.toml").read_text("utf8"))
    known = {}
    for answer in bank["answer"]:
        known.setdefault(answer["exercise"], set()).add(answer.get("diagnosis"))
    table = rows(section(identifier, "Exercises"))
    assert {row[0].strip("`") for row in table} == {x.name for x in LESSONS[identifier].exercises}
    assert {row[1] for row in table} == {"all", "most", "the fast"}
    for exercise, _, advice in table:
        diagnoses = re.findall(r"`([^`]+)`", advice)
        assert diagnoses
        assert set(diagnoses) <= known[exercise.strip("`")], exercise


@pytest.mark.parametrize("identifier", GUIDES)
def test_wrong_answers_come_with_a_reason_and_a_remedy(identifier):
    table = rows(section(identifier, "Ask, and what you will hear"))
    assert len(table) >= 5
    for row in table:
        assert len(row) == 4
        assert all(len(cell) > 2 for cell in row)
    assert "(misconception box)" in section(identifier, "Ask, and what you will hear")


INVENTORY = (ROOT / "docs" / "teaching" / "inventory.md").read_text(encoding="utf8")


def test_the_inventory_ties_every_wrong_choice_to_a_name():
    questions, rest = INVENTORY.split("## Questions\n")[1].split("## Key\n")
    key, names = rest.split("## What each wrong choice diagnoses\n")
    items = re.split(r"^\*\*(\d+)\.\*\* ", questions, flags=re.MULTILINE)[1:]
    assert all(re.findall(r"^- (\w)\. \S", item, re.MULTILINE) == list("ABCD") for item in items[1::2])
    named = {row[0]: row[1] for row in rows(names)}
    used, rights = set(), []
    for number, row in zip(items[::2], rows(key), strict=True):
        item, right, *choices, _ = row
        assert item == number
        assert [letter for letter, name in zip("ABCD", choices, strict=True) if not name] == [right]
        used |= {name for name in choices if name}
        rights.append(right)
    assert 12 <= len(rights) <= 16
    assert max(map(rights.count, "ABCD")) <= 6
    assert min(map(rights.count, "ABCD")) >= 2
    assert used == set(named)
    of_the_course = {
        exercise.misconception
        for identifier in GUIDES
        for exercise in LESSONS[identifier].exercises
        if exercise.misconception
    }
    assert of_the_course <= set(named.values())


def test_the_inventory_says_that_it_is_not_validated():
    assert "**It has not been validated.** No learner has taken it." in INVENTORY
