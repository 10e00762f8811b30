"""vlmprune/methods/README.md names every method, as its YAML describes it."""

from pathlib import Path

import vlmprune.methods
from vlmprune.listing import markdown

README = Path(vlmprune.methods.__file__).parent / "README.md"


def test_the_table_is_that_of_the_yamls():
    table = "\n".join(line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("|"))
    assert table == markdown("methods"), "paste what `vlmprune list methods format=markdown` prints into the README"
