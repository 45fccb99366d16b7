"""The pages of the book that `course.yml`, the bibliography and the library write themselves."""

from collections.abc import Iterable, Mapping
from typing import Any

from authoring import schedules
from authoring.manifest import Claim, Lesson, Manifest
from authoring.run import evidence

VERDICTS = {
    "right": "✓ right",
    "right with conditions": "✓ with conditions",
    "loose": "~ loose",
    "contested": "? contested",
    "wrong": "✗ wrong",
}


def scoreboard(manifest: Manifest, measured: Mapping[str, dict]) -> str:
    """Every claim with our verdict and what its card measured, each linked to the card."""
    counts = {v: sum(claim.verdict == v for claim in manifest.claims.values()) for v in VERDICTS}
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    rows = [
        f"# Scoreboard of claims\n\n{len(manifest.claims)} claims were examined: {summary}. The verdict is "
        "on the words as they stand; the card says what is correct, under which conditions, and the notebook "
        "stops where the measurement no longer supports it.\n",
        "| claim | the words | verdict | measured |\n| --- | --- | --- | --- |",
    ]
    for claim in manifest.claims.values():
        shown = evidence(measured[claim.id]) if claim.id in measured else "–"
        cells = (f"[{claim.id}](#{anchor(claim)})", _words(claim), VERDICTS[claim.verdict], shown)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def anchor(claim: Claim) -> str:
    """The name of the place of a claim's card."""
    return f"claim-{claim.id.replace('.', '-').lower()}"


def _words(claim: Claim) -> str:
    words = " ".join(claim.words.split()).replace("|", "\\|")
    return f"{words} *({claim.source})*" if claim.source else words


def tracks(manifest: Manifest) -> str:
    """How to take the course alone, in a class, in a workshop."""
    parts = ["# Three ways through the course\n"]
    for track in manifest.tracks:
        parts.append(f"## {track['title']}\n")
        if "note" in track:
            parts.append(f"{' '.join(track['note'].split())}\n")
        if "hours_a_week" in track:
            parts += [_alone(manifest, track)]
        if "weeks" in track:
            parts += [_weeks(manifest, track["weeks"])]
        if "days" in track:
            parts += [_day(manifest, day) for day in track["days"]]
    return "\n".join(parts)


def _alone(manifest: Manifest, track: Mapping[str, Any]) -> str:
    rows, week, spent = ["| week | lessons | hours |", "| --- | --- | --- |"], [], 0.0
    plans: list[tuple[list[str], float]] = []
    for identifier in track["lessons"]:
        hours = _minutes(manifest.lessons[identifier]) / 60
        if week and spent + hours > track["hours_a_week"]:
            plans.append((week, spent))
            week, spent = [], 0.0
        week, spent = [*week, _link(manifest.lessons[identifier])], spent + hours
    plans.append((week, spent))
    rows += [f"| {i} | {', '.join(names)} | {hours:.1f} |" for i, (names, hours) in enumerate(plans, 1)]
    total = sum(hours for _, hours in plans)
    return (
        f"At most {track['hours_a_week']:g} hours a week, {total:.0f} hours in all, exercises included; a "
        "lesson longer than that has a week of its own.\n\n" + "\n".join(rows) + "\n"
    )


def _weeks(manifest: Manifest, weeks: Iterable[Mapping[str, Any]]) -> str:
    rows = ["| week | lessons | graded sets | points |", "| --- | --- | --- | --- |"]
    for number, week in enumerate(weeks, 1):
        sets = [manifest.lessons[x] for x in week.get("assignments", ())]
        points = sum(exercise.points for lesson in sets for exercise in lesson.exercises)
        names = ", ".join(_link(manifest.lessons[x]) for x in week["lessons"])
        links = ", ".join(_link(x, "exercises") for x in sets)
        rows.append(f"| {number} | {names} | {links} | {points} |")
    return "\n".join(rows) + "\n"


def _day(manifest: Manifest, day: Mapping[str, Any]) -> str:
    rows = [f"### {day['title']}\n", "| from | minutes | |", "| --- | --- | --- |"]
    for time, item in schedules.clock(day):
        lesson = manifest.lessons.get(item.get("lesson", ""))
        exercise = (
            next((e for e in lesson.exercises if e.name == item.get("exercise")), None) if lesson else None
        )
        link = _link(lesson, "exercises" if exercise else "lessons") + ": " if lesson else ""
        name = f"*{exercise.title}* (`{exercise.name}`), " if exercise else ""
        rows.append(f"| {time} | {item['minutes'] or ''} | {link}{name}{item['what']} |")
    return "\n".join(rows) + f"\n\nWhen time runs out: {' '.join(day['drop'].split())}\n"


def _minutes(lesson: Lesson) -> float:
    return sum(lesson.minutes.values()) if lesson.minutes else 0.0


def _link(lesson: Lesson, folder: str = "lessons") -> str:
    title = f"{lesson.id} · {lesson.title}"
    return f"[{title}](/{folder}/{lesson.stem}.ipynb)" if lesson.stands else title


def lessons(manifest: Manifest) -> str:
    """The map of the course."""
    rows = ["# The map of the course\n", "| lesson | what you do | minutes |", "| --- | --- | --- |"]
    for lesson in manifest.lessons.values():
        minutes = f"{_minutes(lesson):g}" if lesson.minutes else "–"
        rows.append(f"| {_link(lesson)} | {' '.join(lesson.do.split()) or 'in preparation'} | {minutes} |")
    return "\n".join(rows) + "\n"


def bibliography(entries: Mapping[str, Any], cited: Mapping[str, set[str]]) -> str:
    """Every source that is cited, under its key, with the lessons and rooms that cite it."""
    parts = ["# Bibliography\n"]
    for key in sorted(set(entries) & set(cited)):
        entry = entries[key]
        names = [" ".join(p.last_names).strip("{}") for p in entry.persons.get("author", [])]
        fields = entry.fields
        venue = (
            fields.get("howpublished") or fields.get("journal") or fields.get("publisher") or fields["year"]
        )
        arxiv = f" arXiv {fields['eprint']}." if "eprint" in fields else ""
        where = ", ".join(sorted(cited[key]))
        title = fields["title"].strip("{}").rstrip(".")
        parts.append(
            f"({key})=\n\n`{key}` · {', '.join(names)}. *{title}.* {venue}.{arxiv} Cited in {where}.\n"
        )
    return "\n".join(parts)


def room(name: str) -> str:
    """The page of one room: its docstring and those of its public names."""
    title = f"hesslab.{name}"
    return f"{title}\n{'=' * len(title)}\n\n.. automodule:: {title}\n   :members:\n"
