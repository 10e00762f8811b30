"""Recorded text, which may hold anything, as a part of a line, of markdown or of LaTeX."""

from __future__ import annotations

LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"$<$",
    ">": r"$>$",
    "*": r"$\ast$",
    "|": r"\textbar{}",
    "[": "{[}",  # after \\ a bare one would be read as the line break's argument
    "·": r"\textperiodcentered{}",
    "–": "--",
}


def one_line(text: str) -> str:
    """Text of any content in one line of a terminal: a line break is shown as \\n, what moves the cursor as U+FFFD."""
    shown = text.replace("\r", "").replace("\n", "\\n").replace("\t", " ")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in shown)


def latex_text(text: str) -> str:
    """Text of any content as LaTeX sets it; a minus before a digit is one, and a lone one a dash."""
    if text == "-":
        return "--"
    escaped = "".join(LATEX.get(letter, letter) for letter in text)
    return f"$-${escaped[1:]}" if text[:1] == "-" and text[1:2].isdigit() else escaped


def markdown_text(text: str) -> str:
    """Text of any content in a cell."""
    for mark in ("\\", "*", "|", "<"):
        text = text.replace(mark, f"\\{mark}")
    return text
