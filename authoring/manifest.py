"""The manifest: `course.yml` read, checked, and held in frozen dataclasses.

`read(root)` returns the course, or raises ValueError with one sentence that names the place. A lesson stands
when its source `authoring/lessons/NN_slug.py` exists; only a standing lesson must be complete.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from authoring import fields, schedules

VERDICTS = ("right", "right with conditions", "loose", "contested", "wrong")
KINDS = ("worked", "faded", "free")  # how much of the way is shown
START = "00"  # the one lesson without claims, exercises and objectives


@dataclass(frozen=True)
class Objective:
    """What a learner will be able to do, in words that can be observed."""

    id: str
    text: str


@dataclass(frozen=True)
class Exercise:
    """One function to write: its `kind`, `difficulty` and `importance` from 1 to 5, `minutes`, `points`."""

    name: str
    title: str
    objective: str
    kind: str
    difficulty: int
    importance: int
    minutes: float
    points: int
    misconception: str | None = None


@dataclass(frozen=True)
class Claim:
    """A statement under examination: its `words`, the correct `statement`, the verdict, bibliography keys.

    `source` says whose words they are where they are not the note's; `section` is the section of the note.
    """

    id: str
    lesson: str
    words: str
    statement: str
    verdict: str
    references: tuple[str, ...]
    section: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Lesson:
    """A lesson; `minutes` has the keys reading, computing, exercises. A lesson to come may lack the rest."""

    id: str
    slug: str
    title: str
    note: tuple[str, ...]
    prerequisites: tuple[str, ...]
    stands: bool
    do: str = ""
    minutes: Mapping[str, float] | None = None
    objectives: tuple[Objective, ...] = ()
    exercises: tuple[Exercise, ...] = ()

    @property
    def stem(self) -> str:
        """The name of its files, without folder and ending."""
        return f"{self.id}_{self.slug}"


@dataclass(frozen=True)
class Manifest:
    """The whole course: lessons and claims by id, tracks as they are written."""

    title: str
    subtitle: str
    note: Mapping[str, str]
    repository: str
    lessons: Mapping[str, Lesson]
    claims: Mapping[str, Claim]
    tracks: tuple[Mapping[str, Any], ...]

    def claims_of(self, lesson: str) -> list[Claim]:
        """The claims that a lesson examines, in the order of the file."""
        return [claim for claim in self.claims.values() if claim.lesson == lesson]


def read(root: Path) -> Manifest:
    """`root/course.yml`, checked. Raises ValueError naming the place that is wrong."""
    try:
        raw = yaml.safe_load((root / "course.yml").read_text(encoding="utf8"))
    except yaml.YAMLError as error:
        raise ValueError(f"course.yml is not YAML: {' '.join(str(error).split())}") from error
    needed, optional = ("title", "lessons", "claims", "tracks"), ("subtitle", "note", "repository")
    top = fields.table(raw, "at the top", needed=needed, optional=optional)
    lessons = fields.by_id(
        (_lesson(entry, root) for entry in fields.listed(top, "lessons", "at the top")), "lesson"
    )
    claims = fields.by_id(
        (_claim(entry, lessons) for entry in fields.listed(top, "claims", "at the top")), "claim"
    )
    tracks = tuple(_track(entry, lessons) for entry in fields.listed(top, "tracks", "at the top"))
    for lesson in lessons.values():
        _check_lesson(lesson, lessons)
    fields.unique((track["id"] for track in tracks), "course.yml: track")
    fields.unique((o.id for lesson in lessons.values() for o in lesson.objectives), "course.yml: objective")
    _check_references(claims.values(), root)
    return Manifest(
        fields.text(top, "title", "at the top"),
        str(top.get("subtitle") or ""),
        top.get("note") or {},
        str(top.get("repository") or ""),
        lessons,
        claims,
        tracks,
    )


def _lesson(entry: Any, root: Path) -> Lesson:
    optional = ("note", "prerequisites", "do", "minutes", "objectives", "exercises")
    raw = fields.table(entry, "a lesson", needed=("id", "slug", "title"), optional=optional)
    place = f"lesson {raw['id']}"
    if not re.fullmatch(r"\d\d", str(raw["id"])) or not isinstance(raw["id"], str):
        raise ValueError(
            f'course.yml, {place}: id is {raw["id"]!r}; expected two digits in quotes, such as "01"'
        )
    slug = fields.text(raw, "slug", place)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", slug):
        raise ValueError(
            f"course.yml, {place}: slug is {slug!r}; expected small letters, digits and underscores"
        )
    return Lesson(
        raw["id"],
        slug,
        fields.text(raw, "title", place),
        fields.texts(raw, "note", place),
        fields.texts(raw, "prerequisites", place),
        (root / "authoring" / "lessons" / f"{raw['id']}_{slug}.py").exists(),
        fields.text(raw, "do", place) if "do" in raw else "",
        fields.minutes(raw["minutes"], place) if "minutes" in raw else None,
        tuple(_objective(item, place) for item in fields.listed(raw, "objectives", place)),
        tuple(_exercise(item, place) for item in fields.listed(raw, "exercises", place)),
    )


def _objective(entry: Any, place: str) -> Objective:
    raw = fields.table(entry, f"{place}, an objective", needed=("id", "text"))
    return Objective(fields.text(raw, "id", place), fields.text(raw, "text", place))


def _exercise(entry: Any, place: str) -> Exercise:
    place = f"{place}, exercise {fields.called(entry, 'name')}"
    needed = ("name", "title", "objective", "kind", "difficulty", "importance", "minutes", "points")
    raw = fields.table(entry, place, needed=needed, optional=("misconception",))
    fields.choice(raw, "kind", KINDS, place)
    if not str(raw["name"]).isidentifier():
        raise ValueError(
            f"course.yml, {place}: name is {raw['name']!r}; expected the name of a Python function"
        )
    return Exercise(
        raw["name"],
        fields.text(raw, "title", place),
        fields.text(raw, "objective", place),
        raw["kind"],
        fields.scale(raw, "difficulty", place),
        fields.scale(raw, "importance", place),
        fields.positive(raw, "minutes", place),
        int(fields.positive(raw, "points", place, kind=int)),
        fields.text(raw, "misconception", place) if raw.get("misconception") else None,
    )


def _claim(entry: Any, lessons: Mapping[str, Lesson]) -> Claim:
    needed = ("id", "lesson", "words", "statement", "verdict", "references")
    place = f"claim {fields.called(entry, 'id')}"
    raw = fields.table(entry, place, needed=needed, optional=("section", "source"))
    identifier = fields.text(raw, "id", place)
    if not re.fullmatch(r"[A-Za-z0-9][\w.\-]*", identifier):
        raise ValueError(
            f"course.yml, {place}: id holds more than letters, digits, dots, hyphens, underscores"
        )
    fields.known(fields.text(raw, "lesson", place), lessons, f"course.yml, {place}: lesson")
    fields.choice(raw, "verdict", VERDICTS, place)
    return Claim(
        identifier,
        raw["lesson"],
        fields.text(raw, "words", place),
        fields.text(raw, "statement", place),
        raw["verdict"],
        fields.texts(raw, "references", place),
        fields.text(raw, "section", place) if "section" in raw else None,
        fields.text(raw, "source", place) if "source" in raw else None,
    )


def _track(entry: Any, lessons: Mapping[str, Lesson]) -> Mapping[str, Any]:
    if not isinstance(entry, dict) or not {"id", "title"} <= set(entry):
        raise ValueError(f"course.yml, tracks: {entry!r} has no id and title")
    for key, identifier in _mentioned(entry):
        fields.known(identifier, lessons, f"course.yml, track {entry['id']}: {key}")
    for day in entry.get("days", ()):
        schedules.check(day, lessons, f"track {entry['id']}")
    return entry


def _mentioned(entry: Any) -> Iterator[tuple[str, Any]]:
    """Every lesson id under a key `lessons` or `assignments`, however deep."""
    if isinstance(entry, list):
        for item in entry:
            yield from _mentioned(item)
    elif isinstance(entry, dict):
        for key, value in entry.items():
            if key in ("lessons", "assignments"):
                yield from ((key, identifier) for identifier in value)
            else:
                yield from _mentioned(value)


def _check_lesson(lesson: Lesson, lessons: Mapping[str, Lesson]) -> None:
    """What binds fields of a lesson to each other; completeness only where it stands."""
    place = f"course.yml, lesson {lesson.id}"
    for earlier in lesson.prerequisites:
        fields.known(earlier, lessons, f"{place}: prerequisites")
        if earlier >= lesson.id:
            raise ValueError(f"{place}: prerequisite {earlier} is not an earlier lesson")
    objectives = {objective.id for objective in lesson.objectives}
    fields.unique((exercise.name for exercise in lesson.exercises), f"{place}: exercise")
    for exercise in lesson.exercises:
        fields.known(exercise.objective, objectives, f"{place}, exercise {exercise.name}: objective")
    if not lesson.stands:
        return
    _check_complete(lesson, place)
    unassessed = objectives - {exercise.objective for exercise in lesson.exercises}
    if lesson.exercises and unassessed:
        raise ValueError(f"{place}: no exercise assesses objective {min(unassessed)}")


def _check_complete(lesson: Lesson, place: str) -> None:
    for field in ("do", "minutes", *(("objectives",) if lesson.id != START else ())):
        if not getattr(lesson, field):
            raise ValueError(f"{place}: {field} is missing, though its source stands in authoring/lessons")
    stated = lesson.minutes["exercises"] if lesson.minutes else 0
    total = sum(exercise.minutes for exercise in lesson.exercises)
    if stated != total:
        raise ValueError(
            f"{place}: minutes.exercises is {stated:g}, but its exercises take {total:g} together"
        )


def _check_references(claims: Iterable[Claim], root: Path) -> None:
    """Every key is in the bibliography, where there is one: `docs/*.bib`."""
    files = sorted((root / "docs").glob("*.bib"))
    keys = {
        k for f in files for k in re.findall(r"^@\w+\{([^,\s]+)", f.read_text(encoding="utf8"), re.MULTILINE)
    }
    for claim in claims:
        for key in claim.references:
            if files and key not in keys:
                raise ValueError(f"course.yml, claim {claim.id}: reference {key!r} is not in {files[0].name}")
