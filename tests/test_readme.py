"""What the README shows is what happens."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf8")


def code_blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_is_short():
    assert len(README.splitlines()) <= 100


def test_first_block_prints_the_number_and_error_it_promises():
    code = code_blocks("python")[0]
    promised = code.strip().splitlines()[-1].removeprefix("# ")
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip().splitlines()[-1] == promised
    assert re.search(r"\d ± \d|±", promised)


def test_first_block_stands_early():
    assert README[: README.index("```python")].count("\n") < 30


def test_the_two_commands_are_lab_and_test():
    commands = "\n".join(code_blocks("(?:sh|bash|console)"))
    assert "python3 lab.py\n" in commands
    assert "python3 lab.py test" in commands


def test_the_audit_runs_and_gives_its_verdict():
    code = next(block for block in code_blocks("python") if "audit" in block)
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "sharpness / threshold" in shown.stdout
    assert "of the threshold of SGD at its present rate" in shown.stdout
