"""What the public needs: launch links, Binder, Codespaces, workflows, the wheel of the library alone."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from authoring import cards
from authoring.manifest import read

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import lab  # noqa: E402

COURSE = read(ROOT)
PUBLIC = dataclasses.replace(COURSE, repository="https://github.com/owner/a.name")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_a_notebook_opened_alone_says_how_to_get_the_library():
    lesson = COURSE.lessons["02"]
    for folder in ("lessons", "exercises"):
        header = cards.header(COURSE, lesson, folder)
        assert "**Opened alone?**" in header
        assert "`python3 lab.py`" in header


def test_launch_links_come_from_the_repository_and_are_absent_without_one():
    lesson = COURSE.lessons["02"]
    for folder in ("lessons", "exercises"):
        header = cards.header(PUBLIC, lesson, folder)
        path = f"{folder}/02_gradient_descent_on_quadratics.ipynb"
        assert f"https://mybinder.org/v2/gh/owner/a.name/HEAD?urlpath=lab/tree/{path}" in header
        assert f"https://colab.research.google.com/github/owner/a.name/blob/main/{path}" in header
        assert "https://codespaces.new/owner/a.name" in header
        assert "%pip install git+https://github.com/owner/a.name" in header
        assert "http" not in cards.header(dataclasses.replace(COURSE, repository=""), lesson, folder)


@pytest.mark.parametrize(
    "place", ["https://example.org/owner/name", "owner/name", "https://github.com/owner"]
)
def test_another_place_gets_no_launch_links(place):
    assert cards.launches(place, "lessons/x.ipynb") == {}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_fits_the_schema_and_calls_commands_that_exist(path):
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
        str(path),
    ]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    called = re.findall(r"lab\.py (\w+)", path.read_text(encoding="utf8"))
    assert called
    assert set(called) <= set(lab.COMMANDS)


def test_the_tests_run_on_three_systems_with_old_and_new_packages_and_weekly():
    raw = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf8"))
    jobs, events = raw["jobs"], raw[True]  # YAML reads the key `on` as true
    systems = jobs["course"]["strategy"]["matrix"]["os"]
    assert [name.split("-")[0] for name in systems] == ["ubuntu", "macos", "windows"]
    resolutions = {entry["resolution"] for entry in jobs["packages"]["strategy"]["matrix"]["include"]}
    assert resolutions == {"lowest-direct", "highest"}
    assert len(events["schedule"][0]["cron"].split()) == 5


def test_binder_gets_an_exact_python_and_the_torch_of_the_project():
    binder = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text(encoding="utf8"))
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf8"))
    assert "python=3.11" in binder["dependencies"]
    assert binder["channels"] == conda["channels"]
    (torch,) = (entry for entry in binder["dependencies"] if entry.startswith("pytorch"))
    assert torch in conda["dependencies"]
    build = ROOT / "binder" / "postBuild"
    assert "-e '.[lab]'" in build.read_text(encoding="utf8")
    if os.name == "posix":
        assert build.stat().st_mode & 0o111


def test_codespaces_set_up_the_course():
    raw = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf8"))
    assert set(raw) == {"name", "image", "postCreateCommand", "customizations"}
    assert raw["postCreateCommand"] == "python3 lab.py setup"
    assert raw["image"].endswith(":3.11")


def test_the_wheel_holds_the_typed_library_and_nothing_else(tmp_path):
    copy = tmp_path / "copy"  # a build leaves folders behind
    shutil.copytree(
        ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "_build", "*.egg-info", "__pycache__")
    )
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path), str(copy)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode and re.search(
        r"No matching distribution|Could not find a version|connection", made.stderr
    ):
        pytest.skip("building a wheel needs setuptools, and there is no network")
    assert made.returncode == 0, made.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    inside = {name for name in names if ".dist-info/" not in name}
    source = {
        str(p.relative_to(ROOT)).replace(os.sep, "/")
        for p in (ROOT / "hesslab").rglob("*")
        if p.is_file() and (p.suffix == ".py" or p.name == "py.typed" or p.parent.name == "data_files")
    }
    assert inside == source
    assert any(name.endswith("licenses/LICENSE") for name in names)
