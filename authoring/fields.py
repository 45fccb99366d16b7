"""One field of `course.yml` at a time, with the sentence that says what is wrong with it, and where."""

from collections.abc import Iterable, Mapping
from typing import Any


def table(
    entry: Any, place: str, *, needed: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The table `entry`, which has every needed field and no unknown one."""
    if not isinstance(entry, dict):
        raise ValueError(
            f"course.yml, {place}: {entry!r} is not a table; expected the fields {', '.join(needed)}"
        )
    for field in needed:
        if field not in entry:
            raise ValueError(f"course.yml, {place}: {field} is missing")
    for field in entry:
        if field not in (*needed, *optional):
            raise ValueError(
                f"course.yml, {place}: no field is called {field!r}; known are "
                f"{', '.join((*needed, *optional))}"
            )
    return entry


def called(entry: Any, field: str) -> str:
    """How to name an entry in a message, before it is known to be a table."""
    return str(entry.get(field, "without a name") if isinstance(entry, dict) else entry)


def listed(raw: Mapping[str, Any], field: str, place: str) -> list[Any]:
    """A field that is a list, empty where it is left out."""
    value = raw.get(field, [])
    if not isinstance(value, list):
        raise ValueError(f"course.yml, {place}: {field} is {value!r}; expected a list")
    return value


def text(raw: Mapping[str, Any], field: str, place: str) -> str:
    """A field that is text, not empty."""
    if not isinstance(raw[field], str) or not raw[field].strip():
        raise ValueError(
            f"course.yml, {place}: {field} is {raw[field]!r}; expected text (a number goes in quotes)"
        )
    return raw[field].strip()


def texts(raw: Mapping[str, Any], field: str, place: str) -> tuple[str, ...]:
    """A field that is a list of texts."""
    return tuple(text({field: item}, field, place) for item in listed(raw, field, place))


def positive(raw: Mapping[str, Any], field: str, place: str, kind: Any = (int, float)) -> float:
    """A field that is a number above 0."""
    value = raw[field]
    if not isinstance(value, kind) or isinstance(value, bool) or value <= 0:
        expected = "a whole number" if kind is int else "a number"
        raise ValueError(f"course.yml, {place}: {field} is {value!r}; expected {expected} above 0")
    return value


def choice(raw: Mapping[str, Any], field: str, choices: tuple[str, ...], place: str) -> None:
    """Refuse a field that is none of `choices`."""
    if raw[field] not in choices:
        raise ValueError(
            f"course.yml, {place}: {field} is {raw[field]!r}; expected one of {', '.join(choices)}"
        )


def scale(raw: Mapping[str, Any], field: str, place: str) -> int:
    """A field that is a whole number from 1 to 5."""
    if raw[field] not in range(1, 6) or isinstance(raw[field], bool | float):
        raise ValueError(
            f"course.yml, {place}: {field} is {raw[field]!r}; expected a whole number from 1 to 5"
        )
    return raw[field]


def minutes(raw: Any, place: str) -> Mapping[str, float]:
    """The minutes of a lesson by kind."""
    minutes = table(raw, f"{place}, minutes", needed=("reading", "computing", "exercises"))
    for kind, value in minutes.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
            raise ValueError(f"course.yml, {place}: minutes.{kind} is {value!r}; expected a number")
    return minutes


def by_id(items: Iterable[Any], what: str) -> dict[str, Any]:
    """The items by their `id`, in order; each id once."""
    items = list(items)
    unique((item.id for item in items), f"course.yml: {what}")
    return {item.id: item for item in items}


def unique(identifiers: Iterable[str], what: str) -> None:
    """Refuse an identifier that comes twice."""
    seen: set[str] = set()
    for identifier in identifiers:
        if identifier in seen:
            raise ValueError(f"{what} {identifier} is given twice")
        seen.add(identifier)


def known(identifier: Any, known: Iterable[str], what: str) -> None:
    """Refuse an identifier that does not exist."""
    if identifier not in known:
        raise ValueError(f"{what} {identifier!r} does not exist")
