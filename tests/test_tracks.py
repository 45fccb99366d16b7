"""The three ways through the course: schedules add up, people get pauses, paths run to their end."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest

from authoring import pages, schedules
from authoring.manifest import read

ROOT = Path(__file__).resolve().parents[1]
COURSE = read(ROOT)
WORKSHOPS = [track for track in COURSE.tracks if "days" in track]
DAY = {
    "title": "D",
    "start": "09:30",
    "minutes": 110,
    "drop": "all",
    "schedule": [
        {"minutes": 60, "lesson": "02", "what": "a"},
        {"minutes": 15, "pause": True, "what": "b"},
        {"minutes": 35, "lesson": "02", "exercise": "best_step", "what": "c"},
    ],
}


def changed(**fields):
    return {**copy.deepcopy(DAY), **fields}


def item(index, **fields):
    day = copy.deepcopy(DAY)
    day["schedule"][index].update(fields)
    return day


WRONG = {
    "minutes is 100, but its schedule takes 110": changed(minutes=100),
    "105 minutes without a pause before 'b'": {**item(0, minutes=105), "minutes": 155},
    "drop is missing": {k: v for k, v in DAY.items() if k != "drop"},
    "best_step gets 5 minutes; expected at least the 12": {**item(2, minutes=5), "minutes": 80},
    "exercise 'other' does not exist": item(2, exercise="other"),
    "lesson '77' does not exist": item(0, lesson="77"),
    "minutes is 1.5; expected a whole number above 0": item(0, minutes=1.5),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_day_that_cannot_be_held_is_refused(sentence):
    schedules.check(DAY, COURSE.lessons, "track t")
    with pytest.raises(ValueError, match=re.escape(sentence)):
        schedules.check(WRONG[sentence], COURSE.lessons, "track t")


def test_the_clock_begins_at_the_start_and_shows_the_end():
    times = [time for time, _ in schedules.clock(DAY)]
    assert times == ["09:30", "10:30", "10:45", "11:20"]


def test_workshops_of_half_a_day_a_day_and_two_days_stand_on_lessons_that_stand():
    assert [len(track["days"]) for track in WORKSHOPS] == [1, 1, 2]
    for track in WORKSHOPS:
        met = schedules.path(track)
        assert met == sorted(met)
        assert all(COURSE.lessons[identifier].stands for identifier in met)


def test_self_study_and_class_meet_every_lesson():
    for track in COURSE.tracks:
        if track not in WORKSHOPS:
            assert schedules.path(track) == list(COURSE.lessons)


def test_every_graded_set_of_the_class_follows_its_lesson():
    (track,) = (track for track in COURSE.tracks if "weeks" in track)
    met = set()
    for week in track["weeks"]:
        met |= set(week["lessons"])
        assert set(week["assignments"]) <= met


def test_self_study_spends_at_most_its_hours_a_week_but_for_a_long_lesson():
    (track,) = (track for track in COURSE.tracks if "hours_a_week" in track)
    rows = re.findall(r"^\| \d+ \| (.*) \| (\d+\.\d) \|$", pages.tracks(COURSE), re.MULTILINE)
    assert rows
    for lessons, hours in rows:
        assert float(hours) <= track["hours_a_week"] or lessons.count("](") == 1


@pytest.mark.parametrize("track", WORKSHOPS, ids=lambda track: track["id"])
def test_the_path_of_a_workshop_runs_from_end_to_end(track, request):
    """The shortest with every run of the tests; the others, run singly by nbval too, with --bank=all."""
    if track is not WORKSHOPS[0] and request.config.getoption("bank") != "all":
        pytest.skip("the longer paths run with lab.py test --all")
    command = [sys.executable, str(ROOT / "authoring" / "run.py"), track["id"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=540)
    assert done.returncode == 0, done.stdout + done.stderr
    claims = [claim.id for x in schedules.path(track) for claim in COURSE.claims_of(x)]
    held = re.findall(r"^(\S+) .* holds ", done.stdout, re.MULTILINE)
    assert held == claims
    spent = re.findall(r"(\d\d): (\d+) s", done.stdout.splitlines()[-1])
    assert [lesson for lesson, _ in spent] == schedules.path(track)
    for lesson, seconds in spent:
        assert float(seconds) <= 60 * COURSE.lessons[lesson].minutes["computing"], lesson
