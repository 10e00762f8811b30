"""Values as text, and recorded text escaped for the terminal, markdown and LaTeX."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlmprune.results.comparison import CorrectedDifference

NOT_JUDGED = "not judged"  # in place of a score
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
    "±": r"$\pm$",
    "–": "--",
}


def terminal_line(text: str) -> str:
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


def format_points(fraction: float | None) -> str:
    """Return a fraction in points of 100: 0.731 -> '73.1'; '-' for None."""
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def format_percent(fraction: float | None, unknown: str = "-") -> str:
    """Return a fraction in percent: 0.731 -> '73.1 %'; `unknown` for None."""
    return unknown if fraction is None else f"{format_points(fraction)} %"


def format_score(score: float | None, low: float | None, high: float | None, sd: float | None = None) -> str:
    """Return a score in points, with its standard deviation over seeds if there is one and its interval,
    '73.1 ±0.6 [70.2, 75.9]'; NOT_JUDGED for None."""
    if score is None:
        return NOT_JUDGED
    spread = "" if sd is None else f" ±{format_points(sd)}"
    interval = "" if low is None or high is None else f" [{format_points(low)}, {format_points(high)}]"
    return format_points(score) + spread + interval


def format_difference(compared: CorrectedDifference | None) -> str:
    """Return a difference in points with its corrected p value, '-1.3 (0.021)'; '-' for None."""
    if compared is None:
        return "-"
    return f"{100 * compared.difference.mean:+.1f} ({'<0.001' if compared.p < 0.001 else f'{compared.p:.3f}'})"


def format_number(value: float | None) -> str:
    """Return a value with about three significant digits; '-' for None, '0' for 0."""
    if not value:
        return "-" if value is None else "0"
    decimals = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{decimals}f}"


def format_flops(flops: float) -> str:
    """Return FLOPs as text in GFLOPs or TFLOPs."""
    return f"{flops / 1e12:.2f} TFLOPs" if flops >= 1e12 else f"{flops / 1e9:.3g} GFLOPs"


def format_amount(ratio: float | None, keep: int | None) -> str:
    """Return the requested amount of pruning: '95 %', 'keep 64', or 'default' for a published schedule."""
    if keep is not None:
        return f"keep {keep}"
    return "default" if ratio is None else f"{100 * ratio:g} %"
