"""Escaping of recorded text of any content for a terminal line, markdown or LaTeX."""

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
    """Return text as one terminal line: a line break becomes \\n, an unprintable character U+FFFD."""
    shown = text.replace("\r", "").replace("\n", "\\n").replace("\t", " ")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in shown)


def latex_text(text: str) -> str:
    """Return text escaped for LaTeX; '-' before a digit becomes a minus sign, and '-' alone a dash."""
    if text == "-":
        return "--"
    escaped = "".join(LATEX.get(letter, letter) for letter in text)
    return f"$-${escaped[1:]}" if text[:1] == "-" and text[1:2].isdigit() else escaped


def markdown_text(text: str) -> str:
    """Return text escaped for a cell of a markdown table."""
    for mark in ("\\", "*", "|", "<"):
        text = text.replace(mark, f"\\{mark}")
    return text
