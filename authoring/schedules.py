"""The days of a workshop: minutes that add up, pauses that people need, exercises with the time they take."""

from collections.abc import Iterator, Mapping
from typing import Any

from authoring import fields

STRETCH = 100  # minutes between two pauses, at most


def check(day: Any, lessons: Mapping[str, Any], place: str) -> None:
    """Refuse a day of `course.yml` whose minutes do not add up, or that nobody could sit through."""
    raw = fields.table(day, place, needed=("title", "start", "minutes", "schedule", "drop"))
    place = f"{place}, {raw['title']}"
    items = [_item(entry, lessons, place) for entry in fields.listed(raw, "schedule", place)]
    total = sum(item["minutes"] for item in items)
    if total != raw["minutes"]:
        raise ValueError(f"course.yml, {place}: minutes is {raw['minutes']}, but its schedule takes {total}")
    for length, last in _stretches(items):
        if length > STRETCH:
            raise ValueError(
                f"course.yml, {place}: {length} minutes without a pause before {last!r}; "
                f"expected at most {STRETCH}"
            )


def path(track: Mapping[str, Any]) -> list[str]:
    """The lessons of a track, in the order in which they are met."""
    if "days" in track:
        met = [item["lesson"] for day in track["days"] for item in day["schedule"] if "lesson" in item]
    else:
        met = [*track.get("lessons", ()), *(x for week in track.get("weeks", ()) for x in week["lessons"])]
    return list(dict.fromkeys(met))


def clock(day: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each item of a day with the time at which it begins, and the end."""
    hours, minutes = map(int, day["start"].split(":"))
    now = 60 * hours + minutes
    for item in [*day["schedule"], {"minutes": 0, "what": "End"}]:
        yield f"{now // 60:02d}:{now % 60:02d}", item
        now += item["minutes"]


def _item(entry: Any, lessons: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    optional = ("lesson", "exercise", "pause")
    raw = fields.table(entry, f"{place}, an item", needed=("minutes", "what"), optional=optional)
    fields.positive(raw, "minutes", place, kind=int)
    if "lesson" in raw:
        fields.known(raw["lesson"], lessons, f"course.yml, {place}: lesson")
    if "exercise" in raw:
        offered = {e.name: e.minutes for e in lessons[raw.get("lesson", "00")].exercises}
        fields.known(raw["exercise"], offered, f"course.yml, {place}: exercise")
        if raw["minutes"] < offered[raw["exercise"]]:
            raise ValueError(
                f"course.yml, {place}: {raw['exercise']} gets {raw['minutes']} minutes; expected at least "
                f"the {offered[raw['exercise']]:g} that its lesson states"
            )
    return raw


def _stretches(items: list[Mapping[str, Any]]) -> Iterator[tuple[int, str]]:
    """The minutes between pauses, each with what ends them."""
    length = 0
    for item in items:
        if item.get("pause"):
            yield length, item["what"]
            length = 0
        else:
            length += item["minutes"]
    yield length, "the end"
