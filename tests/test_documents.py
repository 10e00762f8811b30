"""README, CONTRIBUTING, CHANGELOG and docs/: short where they promise it, links that lead somewhere, current tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vlmprune.cli.listing import markdown
from vlmprune.config.registry import find_choices

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:vlmprune|configs|scripts|tests|docs|outputs/reference)/[\w./-]+)`")  # a file or folder here


def anchors(page: Path) -> set[str]:
    """The names by which GitHub links to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead(page: Path) -> list[str]:
    """Links of a page to files or headings that are not there."""
    found = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        if not link.startswith("https://") and (not target.exists() or (anchor and anchor not in anchors(target))):
            found.append(link)
    return found


def test_the_readme_is_short():
    assert len(README.encode()) <= 10_000


def test_the_readme_enters_the_environment_once_and_before_the_first_command():
    shell = "".join(re.findall(r"^```bash\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))
    assert shell.count("source .venv/bin/activate") == 1 and ".venv/bin/vlmprune" not in README
    assert shell.index("source .venv/bin/activate") < re.search(r"^vlmprune", shell, re.MULTILINE).start()


def test_the_readme_names_every_method():
    rows = re.findall(r"^\| (`.*?`) \|", README, re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(find_choices("method"))


def test_the_readme_leads_to_every_page():
    linked = {link.partition("#")[0] for link in LINK.findall(README)}
    assert {page.relative_to(ROOT).as_posix() for page in PAGES} - {"README.md"} <= linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    assert dead(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    assert [name for name in NAMED.findall(page.read_text(encoding="utf-8")) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    ("kind", "page"),
    [("models", "models"), ("matrix", "models"), ("methods", "methods"), ("benchmarks", "benchmarks")],
)
def test_tables_are_those_of_the_yamls(kind, page):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert markdown(kind) in text, f"write it anew: vlmprune list {kind} format=markdown"
