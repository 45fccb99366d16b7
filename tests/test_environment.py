"""environment.yml, pyproject.toml and constraints.txt agree. That conda solves it is not tested here."""

import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
PYPI_NAMES = {"pytorch": "torch"}
CONDA_ONLY = {"python", "pip", "jupyter"}


def ranges(extra):
    wanted = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return {Requirement(r).name: Requirement(r).specifier for r in wanted}


def conda_ranges():
    entries = [entry.partition(" ") for entry in CONDA["dependencies"] if isinstance(entry, str)]
    return {PYPI_NAMES.get(name, name): SpecifierSet(spec) for name, _, spec in entries}


def pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf8").splitlines()
    return {Requirement(line).name.lower(): line for line in lines if line and not line.startswith("#")}


def test_conda_users_get_the_same_ranges():
    conda = conda_ranges()
    assert {k: v for k, v in conda.items() if k not in CONDA_ONLY} == ranges(None) | ranges("lab") | ranges(
        "test"
    )
    assert conda["python"] == SpecifierSet(PROJECT["requires-python"])


def test_environment_yml_names_what_a_reader_looks_for():
    text = (ROOT / "environment.yml").read_text(encoding="utf8")
    for name in ("numpy", "scipy", "matplotlib", "jupyter", "pytorch", "nbval"):
        assert f"- {name}" in text
    assert CONDA["channels"] == ["conda-forge", "nodefaults"]
    assert CONDA["dependencies"][-1] == {"pip": ["-e ."]}


def test_every_package_asked_for_is_pinned_within_its_range():
    tested = pins()
    for extra in (None, *PROJECT["optional-dependencies"]):
        for name, specifier in ranges(extra).items():
            if name == PROJECT["name"]:
                continue
            assert name.lower() in tested, f"constraints.txt lacks {name}"
            version = Requirement(tested[name.lower()]).specifier
            assert specifier.contains(next(iter(version)).version), (
                f"{name}: {version} is outside {specifier}"
            )


def test_torch_is_pinned_to_the_tested_release():
    assert pins()["torch"] == "torch==2.13.0"
