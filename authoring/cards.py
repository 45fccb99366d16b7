"""The Markdown that `course.yml` gives to a notebook: headers, claim cards, headings of exercises."""

import re
from collections.abc import Iterable

from authoring.manifest import Claim, Exercise, Lesson, Manifest


def header(manifest: Manifest, lesson: Lesson, folder: str) -> str:
    """The first cell of a notebook in `lessons` or in `exercises` (and so in `solutions`)."""
    return _lesson_header(manifest, lesson) if folder == "lessons" else _exercise_header(manifest, lesson)


def opened_alone(manifest: Manifest, path: str) -> str:
    """How to get hesslab; where the course has a public repository, where to run the notebook."""
    where = f"[the course]({manifest.repository})" if manifest.repository else "the course"
    parts = [
        "**Opened alone?** The code needs `hesslab`, which comes with "
        f"{where}: clone it, then `python3 lab.py`."
    ]
    if links := launches(manifest.repository, path):
        named = ", ".join(f"[{name}]({link})" for name, link in links.items())
        parts.append(f"Or run it on {named}; on Colab, `%pip install git+{manifest.repository}` first.")
    return " ".join(parts)


def launches(repository: str, path: str) -> dict[str, str]:
    """Where a notebook of a GitHub repository runs in a browser: name -> address; {} for any other place."""
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", repository)
    if not found:
        return {}
    name = found[1]
    return {
        "Binder": f"https://mybinder.org/v2/gh/{name}/HEAD?urlpath=lab/tree/{path}",
        "Colab": f"https://colab.research.google.com/github/{name}/blob/main/{path}",
        "Codespaces": f"https://codespaces.new/{name}",
    }


def claim_card(manifest: Manifest, claim: Claim) -> str:
    """The card of a claim: whose words, what is correct, the verdict, the sources; a block quote."""
    place = f", section {claim.section}" if claim.section else ""
    words = " ".join(claim.words.split())
    parts = [
        f"{card_title(claim)} {claim.source or 'The note'}{place}: “{words}”",
        f"**What is correct.** {' '.join(claim.statement.split())}",
        f"**Verdict:** {claim.verdict}. **Sources:** {', '.join(claim.references) or 'measured here'}.",
    ]
    return "\n>\n".join(f"> {part}" for part in parts)


def card_title(claim: Claim) -> str:
    """How a card begins; a test finds cards by it."""
    return f"**Claim {claim.id}.**"


def exercise_heading(lesson: Lesson, exercise: Exercise) -> str:
    """The heading of an exercise, with its tags and the objective that it assesses."""
    number = lesson.exercises.index(exercise) + 1
    objective = next(o.text for o in lesson.objectives if o.id == exercise.objective)
    return (
        f"## Exercise {number} · {exercise.title}\n\n`{exercise.name}` · {exercise.kind} · "
        f"difficulty {exercise.difficulty} of 5 · importance {exercise.importance} of 5 · "
        f"{exercise.minutes:g} minutes · {_points(exercise.points)} · assesses: {_sentence(objective)}"
    )


def course_map(manifest: Manifest) -> str:
    """The lessons of the course as a table: what each examines, what it needs, how long it takes."""
    rows = ["| lesson | sections of the note | needs | minutes |", "| --- | --- | --- | --- |"]
    for lesson in manifest.lessons.values():
        minutes = f"{sum(lesson.minutes.values()):g}" if lesson.minutes else "in preparation"
        cells = (
            _link(lesson, "../lessons"),
            ", ".join(lesson.note),
            ", ".join(lesson.prerequisites),
            minutes,
        )
        rows.append(f"| {' | '.join(cell or '–' for cell in cells)} |")
    return "\n".join(rows)


def _lesson_header(manifest: Manifest, lesson: Lesson) -> str:
    claims = manifest.claims_of(lesson.id)
    objectives = "".join(f"\n- {_sentence(objective.text)}" for objective in lesson.objectives)
    before = [_link(manifest.lessons[earlier], "../lessons") for earlier in lesson.prerequisites]
    parts = [
        f"# {lesson.id} · {lesson.title}",
        f"**What you will do.** {_sentence(lesson.do)}",
        f"**What you will be able to do**\n{objectives}" if objectives else "",
        f"**What you need.** {', '.join(before)}."
        if before
        else "**What you need.** Nothing but this notebook.",
        f"**Time.** {_time(lesson)}.",
        f"**What is examined.** {_examined(manifest, lesson, claims)}." if claims else "",
        opened_alone(manifest, f"lessons/{lesson.stem}.ipynb"),
    ]
    return "\n\n".join(part for part in parts if part)


def _exercise_header(manifest: Manifest, lesson: Lesson) -> str:
    minutes = sum(exercise.minutes for exercise in lesson.exercises)
    points = sum(exercise.points for exercise in lesson.exercises)
    return "\n\n".join(
        [
            f"# {lesson.id} · {lesson.title}: exercises",
            f"{len(lesson.exercises)} exercises, {minutes:g} minutes, {_points(points)}. "
            f"They follow {_link(lesson, '../lessons')}.",
            "Replace the line `raise NotImplementedError(…)` by your answer, run the cell, then run the "
            "check below it: it says at once what is right, or which law fails, by how much, and where to "
            "reread. An answer that you have not begun counts as not attempted: the notebook runs from top "
            "to bottom at any time. "
            f"The answers are in `solutions/{lesson.stem}.ipynb`.",
            opened_alone(manifest, f"exercises/{lesson.stem}.ipynb"),
        ]
    )


def _time(lesson: Lesson) -> str:
    minutes = lesson.minutes or {}
    kinds = ("reading", "computing", "exercises")
    return ", ".join(f"{kind} {minutes[kind]:g} min" for kind in kinds if minutes.get(kind))


def _examined(manifest: Manifest, lesson: Lesson, claims: Iterable[Claim]) -> str:
    note = manifest.note
    word = "section" if len(lesson.note) == 1 else "sections"
    sections = f"{word} {', '.join(lesson.note)} of " if lesson.note else ""
    where = f"{sections}“{note.get('title', 'the note')}” by {note.get('author', 'its author')}"
    return f"Claims {', '.join(claim.id for claim in claims)}, from {where}"


def _link(lesson: Lesson, folder: str) -> str:
    """A link where there is a notebook to open, else the title alone."""
    title = f"{lesson.id} · {lesson.title}"
    return f"[{title}]({folder}/{lesson.stem}.ipynb)" if lesson.stands else title


def _points(points: int) -> str:
    return f"{points} point{'s' if points != 1 else ''}"


def _sentence(text: str) -> str:
    """`text` on one line, with a full stop."""
    text = " ".join(text.split())
    return text if text.endswith((".", "!", "?", "…")) else text + "."
