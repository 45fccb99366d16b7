"""The docstrings of hesslab as reStructuredText: formulas, code and prose, none of it taken for markup."""

import re

SIGNS = re.compile(r"([\\*|_<])")


def to_rst(lines: list[str]) -> None:
    r"""Rewrite the lines of a docstring in place, as Sphinx asks for.

    Text of a paragraph is kept as text; what stands between backquotes is code; an indented block is shown as
    it stands; an example is left to Sphinx.

    >>> lines = ["The norm |v|_2 of `v`:", "", "    ‖v‖ = (Σ v_i²)^½", "", ">>> 1", "1"]
    >>> to_rst(lines)
    >>> lines[:4]
    ['The norm \\|v\\|\\_2 of ``v``:', '', '.. code-block:: text', '']
    """
    written: list[str] = []
    for block in _blocks(lines):
        if block[0].startswith(">>>"):
            written += block
        elif block[0].startswith(" "):
            written += [".. code-block:: text", "", *("   " + line.replace("`", "") for line in block)]
        else:
            written += _prose(block)
        written.append("")
    lines[:] = written


def _blocks(lines: list[str]) -> list[list[str]]:
    """Runs of lines between empty ones; an indented run goes on over them."""
    blocks: list[list[str]] = []
    fresh = True
    for line in lines:
        if not line.strip():
            fresh = True
        elif fresh and not (blocks and line.startswith(" ") and blocks[-1][0].startswith(" ")):
            blocks.append([line])
        elif not fresh and blocks and line.startswith(" ") != blocks[-1][0].startswith(" "):
            blocks.append([line])  # a formula right under its sentence
        else:
            blocks[-1] += [""] * fresh + [line]
        fresh = fresh and not line.strip()
    return blocks


def _prose(block: list[str]) -> list[str]:
    """One paragraph, or a list whose items begin with a hyphen."""
    parts = re.split(r"(`[^`]*`)", "\n".join(block))
    text = "".join(f"`{part}`" if part.startswith("`") else SIGNS.sub(r"\\\1", part) for part in parts)
    return text.split("\n")
