"""Values as text, and recorded text escaped."""

from __future__ import annotations

from vlmprune.results.text import format_number, latex_text, markdown_text, terminal_line


def test_escapes():
    assert latex_text("-6.2 (<0.001)") == "$-$6.2 ($<$0.001)" and latex_text("-") == "--"
    assert latex_text(r"a\b_c") == r"a\textbackslash{}b\_c"
    assert markdown_text("a|b <c> *d*") == r"a\|b \<c> \*d\*"
    assert terminal_line("a\nb\t\x1b[31mc\u202e é") == "a\\nb \ufffd[31mc\ufffd é"


def test_numbers_have_three_digits():
    values = (None, 0, 0.1234, 1.234, 12.34, 123.4, 12345.6)
    assert [format_number(value) for value in values] == ["-", "0", "0.123", "1.23", "12.3", "123", "12,346"]
