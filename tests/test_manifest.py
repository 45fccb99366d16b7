"""course.yml: what it gives, and one sentence for each way in which it can be wrong."""

import copy
import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from authoring.manifest import read

ROOT = Path(__file__).resolve().parents[1]

GOOD = yaml.safe_load("""
title: A course
subtitle: small
note: {title: A note, author: Somebody}
lessons:
  - {id: "00", slug: start, title: Start, do: You start., minutes: {reading: 5, computing: 1, exercises: 0}}
  - id: "01"
    slug: one
    title: One
    note: ["1"]
    prerequisites: ["00"]
    do: You do one thing.
    minutes: {reading: 30, computing: 0.5, exercises: 15}
    objectives: [{id: "01.1", text: Do it}, {id: "01.2", text: Say it}]
    exercises:
      - {name: f, title: F, objective: "01.1", kind: worked, difficulty: 1, importance: 5, minutes: 5,
         points: 1}
      - {name: g, title: G, objective: "01.2", kind: free, difficulty: 2, importance: 3, minutes: 10,
         points: 2}
  - {id: "02", slug: two, title: Two, prerequisites: ["01"]}
claims:
  - {id: "1.1", lesson: "01", words: a is b, statement: a is c, verdict: loose, references: [k1, k2],
     section: "1"}
  - {id: "2.1", lesson: "02", words: x, statement: "y", verdict: right, references: []}
tracks:
  - {id: self, title: Self-study, lessons: ["00", "01"]}
  - {id: class, title: Class, weeks: [{lessons: ["01"], assignments: ["01"]}]}
""")


def lay(root, raw, standing=("00_start", "01_one")):
    (root / "authoring/lessons").mkdir(parents=True)
    for stem in standing:
        (root / f"authoring/lessons/{stem}.py").touch()
    text = raw if isinstance(raw, str) else yaml.safe_dump(raw, allow_unicode=True, sort_keys=False)
    (root / "course.yml").write_text(text, encoding="utf8")
    return root


def changed(change):
    raw = copy.deepcopy(GOOD)
    change(raw)
    return raw


def test_the_course_itself_is_right():
    course = read(ROOT)
    assert [lesson.id for lesson in course.lessons.values()] == [f"{i:02}" for i in range(16)]


def test_gives_what_the_file_says(tmp_path):
    course = read(lay(tmp_path, GOOD))
    assert [(x.id, x.stem, x.stands) for x in course.lessons.values()] == [
        *(("00", "00_start", True), ("01", "01_one", True), ("02", "02_two", False)),
    ]
    one = course.lessons["01"]
    assert (one.do, one.prerequisites, one.note) == ("You do one thing.", ("00",), ("1",))
    assert one.minutes == {"reading": 30, "computing": 0.5, "exercises": 15}
    assert [o.id for o in one.objectives] == ["01.1", "01.2"]
    assert [(e.name, e.objective, e.points, e.kind) for e in one.exercises] == [
        *(("f", "01.1", 1, "worked"), ("g", "01.2", 2, "free")),
    ]
    assert [claim.id for claim in course.claims_of("01")] == ["1.1"]
    claim = course.claims["1.1"]
    assert (claim.words, claim.verdict, claim.references) == ("a is b", "loose", ("k1", "k2"))
    assert (claim.section, claim.source, course.tracks[0]["lessons"]) == ("1", None, ["00", "01"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        claim.verdict = "right"


def test_a_lesson_to_come_may_be_incomplete_and_its_objectives_unassessed(tmp_path):
    def later(raw):
        del raw["lessons"][1]["do"], raw["lessons"][1]["minutes"]
        raw["lessons"][1]["exercises"].pop()

    assert not read(lay(tmp_path, changed(later), standing=())).lessons["01"].stands


def test_a_lesson_without_an_exercise_set_assesses_nothing(tmp_path):
    def bare(raw):
        raw["lessons"][1]["exercises"] = []
        raw["lessons"][1]["minutes"]["exercises"] = 0

    assert read(lay(tmp_path, changed(bare))).lessons["01"].exercises == ()


def test_references_are_looked_up_where_there_is_a_bibliography(tmp_path):
    root = lay(tmp_path, GOOD)
    (root / "docs").mkdir()
    (root / "docs/references.bib").write_text("@article{k1,\n title={A}}\n", encoding="utf8")
    with pytest.raises(ValueError, match=r"course.yml, claim 1\.1: reference 'k2' is not in references\.bib"):
        read(root)
    (root / "docs/references.bib").write_text("@article{k1,\n}\n@book{k2,\n}\n", encoding="utf8")
    assert read(root)


def put(value, *path):
    """A change that puts `value` at the path."""

    def change(raw):
        *way, last = path
        for step in way:
            raw = raw[step]
        raw[last] = value

    return change


def drop(*path):
    """A change that removes the field at the path."""

    def change(raw):
        *way, last = path
        for step in way:
            raw = raw[step]
        del raw[last]

    return change


ONE, EXERCISE, CLAIM = ("lessons", 1), ("lessons", 1, "exercises", 0), ("claims", 0)
WRONG = {
    "course.yml, at the top: title is missing": drop("title"),
    "course.yml, at the top: no field is called 'lesons'": put([], "lesons"),
    "course.yml, at the top: claims is None; expected a list": put(None, "claims"),
    "course.yml, a lesson: 'x' is not a table; expected the fields id, slug, title": put("x", *ONE),
    "course.yml, lesson 1: id is 1; expected two digits in quotes": put(1, *ONE, "id"),
    "course.yml, lesson 12: id is 12; expected two digits in quotes": put(12, *ONE, "id"),
    "course.yml, lesson 01: slug is 'One-1'; expected small letters": put("One-1", *ONE, "slug"),
    "course.yml, lesson 01: title is 7; expected text (a number goes in quotes)": put(7, *ONE, "title"),
    "course.yml, a lesson: no field is called 'minuets'": put(1, *ONE, "minuets"),
    "course.yml: lesson 01 is given twice": put("01", "lessons", 2, "id"),
    "course.yml, lesson 01: prerequisites '07' does not exist": put(["07"], *ONE, "prerequisites"),
    "course.yml, lesson 01: prerequisite 02 is not an earlier": put(["02"], *ONE, "prerequisites"),
    "course.yml, lesson 01: note is 1.5; expected text": put([1.5], *ONE, "note"),
    "course.yml, lesson 01: do is missing, though its source stands": drop(*ONE, "do"),
    "course.yml, lesson 01: minutes is missing, though its source": drop(*ONE, "minutes"),
    "course.yml, lesson 01, minutes: computing is missing": drop(*ONE, "minutes", "computing"),
    "course.yml, lesson 01: minutes.reading is 'long'; expected a number": put(
        "long", *ONE, "minutes", "reading"
    ),
    "course.yml, lesson 01: minutes.exercises is 20, but its exercises take 15": put(
        20, *ONE, "minutes", "exercises"
    ),
    "course.yml, lesson 01, an objective: text is missing": drop(*ONE, "objectives", 0, "text"),
    "course.yml: objective 01.1 is given twice": put(
        [{"id": "01.1", "text": "a"}, {"id": "01.2", "text": "a"}, {"id": "01.1", "text": "b"}],
        *ONE,
        "objectives",
    ),
    "course.yml, lesson 01: no exercise assesses objective 01.2": put(
        "01.1", *ONE, "exercises", 1, "objective"
    ),
    "course.yml, lesson 01, exercise f: objective '09.1' does not exist": put("09.1", *EXERCISE, "objective"),
    "course.yml, lesson 01: exercise g is given twice": put("g", *EXERCISE, "name"),
    "course.yml, lesson 01, exercise a b: name is 'a b'; expected the name of a Python": put(
        "a b", *EXERCISE, "name"
    ),
    "course.yml, lesson 01, exercise without a name: name is missing": drop(*EXERCISE, "name"),
    "course.yml, lesson 01, exercise f: kind is 'easy'; expected one of worked,": put(
        "easy", *EXERCISE, "kind"
    ),
    "course.yml, lesson 01, exercise f: difficulty is 6; expected a whole number from 1": put(
        6, *EXERCISE, "difficulty"
    ),
    "course.yml, lesson 01, exercise f: importance is 1.0; expected a whole number": put(
        1.0, *EXERCISE, "importance"
    ),
    "course.yml, lesson 01, exercise f: minutes is 0; expected a number above 0": put(
        0, *EXERCISE, "minutes"
    ),
    "course.yml, lesson 01, exercise f: points is 1.5; expected a whole number above 0": put(
        1.5, *EXERCISE, "points"
    ),
    "course.yml, claim 1.1: verdict is 'bad'; expected one of right, right with conditions, loose": (
        put("bad", *CLAIM, "verdict")
    ),
    "course.yml, claim 1.1: words is ''; expected text": put("", *CLAIM, "words"),
    "course.yml, claim 1.1: statement is missing": drop(*CLAIM, "statement"),
    "course.yml, claim 1.1: lesson '09' does not exist": put("09", *CLAIM, "lesson"),
    "course.yml, claim 1.1: references is 'k1'; expected a list": put("k1", *CLAIM, "references"),
    "course.yml, claim 1 1: id holds more than letters": put("1 1", *CLAIM, "id"),
    "course.yml: claim 2.1 is given twice": put("2.1", *CLAIM, "id"),
    "course.yml, tracks: {'id': 'x'} has no id and title": put({"id": "x"}, "tracks", 0),
    "course.yml, track self: lessons '08' does not exist": put(["08"], "tracks", 0, "lessons"),
    "course.yml, track class: assignments '08' does not exist": put(
        ["08"], "tracks", 1, "weeks", 0, "assignments"
    ),
    "course.yml: track class is given twice": put("class", "tracks", 0, "id"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_says_what_is_wrong_and_where(tmp_path, sentence):
    root = lay(tmp_path, changed(WRONG[sentence]))
    with pytest.raises(ValueError, match=re.escape(sentence)):
        read(root)


def test_says_that_it_is_not_yaml(tmp_path):
    with pytest.raises(ValueError, match=r"^course\.yml is not YAML: .*line 1"):
        read(lay(tmp_path, "a: [1"))
