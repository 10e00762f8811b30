"""The HTML report: well formed, self-contained, sortable; and recorded text in it is text, never markup or a path."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.results.synthetic import change_result, make_run
from vlmprune import __version__
from vlmprune.cli.compare import compare
from vlmprune.errors import UserError
from vlmprune.results.comparison import Row, make_rows
from vlmprune.results.find import find_runs, group_runs
from vlmprune.results.html import LONGEST_SIDE, NO_EXAMPLES, VARIABLES, data_uri, examples_of, read_examples

EVIL = '</script><script>alert(1)</script><img src=x onerror=alert(2)> & "quoted"'
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def picture(path: Path, entries: list[dict[str, Any]], size: tuple[int, int] = (60, 40)) -> None:
    """Save pictures and their index in a run directory; what an entry leaves out is made up."""
    folder = path / "pictures"
    folder.mkdir(exist_ok=True)
    made_up = {"question": "What is it?", "answer": "red", "prediction": "blue", "score": 0.0, "kept": 14, "total": 144}
    index = [{"file": f"{number}.png"} | made_up | entry for number, entry in enumerate(entries)]
    for entry in index:
        if "/" not in entry["file"]:
            Image.new("RGB", size, "teal").save(folder / entry["file"], "PNG")
    (folder / "index.json").write_text(json.dumps(index))


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Three runs with pictures of the same question, one of them of another too, and runs without."""
    picture(make_run(tmp_path, "none"), [{"id": "q1", "prediction": "red", "score": 1.0, "kept": 144}])
    picture(make_run(tmp_path, "cls", 0.9), [{"id": "q1"}, {"id": "q2"}])
    picture(make_run(tmp_path, "random", 0.9), [{"id": "q1", "question": EVIL, "prediction": EVIL}])
    make_run(tmp_path, "cls", 0.5)
    return tmp_path


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is not about charts, which take their time."""
    monkeypatch.setattr("vlmprune.results.html.chart_svgs", lambda groups: [])


def page_of(outputs: Path, *arguments: str) -> tuple[Page, str]:
    file = outputs / "report.html"
    assert compare([f"outputs={outputs}", f"html={file}", *arguments]) == 0
    text = file.read_text()
    return Page(text), text


def rows_of(outputs: Path) -> list[Row]:
    (group,) = group_runs(find_runs([outputs])[0])
    return make_rows(group, group)


def test_the_page_is_well_formed_and_loads_nothing(outputs: Path) -> None:
    page, text = page_of(outputs)
    assert len(page.all("table")) == 1 and len(page.all("tr")) == 1 + 4
    marks = [attributes for attributes in page.all("svg") if attributes.get("class") == "mark"]
    assert len(marks) == 4 + 4 and len(page.all("svg")) == len(marks) + 4  # rows, examples, and charts
    loaded = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert not page.all("link") and all((value or "").startswith("data:image/jpeg;base64,") for value in loaded)
    assert "url(http" not in text and "@import" not in text and len(page.all("script")) == 1
    assert "default-src 'none'" in str(page.all("meta")[1])
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = [str(attributes["xlink:href"])[1:] for attributes in page.all("use")]
    assert used and set(used) <= set(ids)


def test_every_cell_sorts_by_its_value(outputs: Path, no_charts: None) -> None:
    page, _ = page_of(outputs)
    cells = page.all("td")
    heads = len(page.all("th"))
    assert len(cells) == 4 * heads and all("data-sort" in cell for cell in cells)
    scores = [float(cells[heads * row + 5]["data-sort"] or "") for row in range(4)]
    assert scores == [row.run.score for row in rows_of(outputs)]
    assert cells[6 + 1]["data-sort"] == ""  # the unpruned run is not compared with itself


FAKE_PAGE = """
const cell = value => ({dataset: {sort: value}});
const row = values => ({cells: values.map(cell)});
const body = {rows: TABLE.map(row), append(...rows) { this.rows = rows; }};
const table = {tBodies: [body], querySelectorAll: () => heads};
const heads = TABLE[0].map((_, at) => ({
  cellIndex: at, said: null, closest: () => table,
  getAttribute() { return this.said; }, setAttribute(name, value) { this.said = value; },
  removeAttribute() { this.said = null; },
}));
const clicks = [];
const document = {querySelectorAll: () => heads.map(
  head => ({parentElement: head, addEventListener: (name, act) => clicks.push(act)}))};
SCRIPT
for (const at of ORDER) {
  clicks[at]();
  console.log(body.rows.map(each => each.cells[at].dataset.sort).join(" "));
}
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no JavaScript without node")
def test_words_sort_from_a_to_z_and_numbers_from_the_largest() -> None:
    rows = [["tome", "0.5", "1"], ["cls k=10", "", "0"], ["cls k=9", "-1e-3", "0"], ["fastv", "20", "1"]]
    script = (files("vlmprune.results") / "page.js").read_text()
    page = FAKE_PAGE.replace("TABLE", json.dumps(rows)).replace("SCRIPT", script).replace("ORDER", "[0, 0, 1, 1, 2]")
    done = subprocess.run(["node", "-e", page], capture_output=True, text=True, timeout=60, check=True)
    words, back, largest, smallest, front = done.stdout.splitlines()
    assert words == "cls k=9 cls k=10 fastv tome" and back == "tome fastv cls k=10 cls k=9"
    assert largest == "20 0.5 -1e-3 " and smallest == "-1e-3 0.5 20 " and front == "1 1 0 0"


def test_the_footer_says_where_and_when_the_runs_were_made(outputs: Path, no_charts: None) -> None:
    gpu = {"device": "cuda:0", "device_name": "NVIDIA H200", "versions": {"torch": "2.11.0", "x": "<b>"}}
    change_result(make_run(outputs, "fastv", 0.5, environment=gpu), {}, finished="2026-11-23T05:00:00+00:00")
    change_result(make_run(outputs, "pool", 0.5), {}, finished="2026-11-24T05:00:00+00:00")
    page, _ = page_of(outputs)
    footer = page.text[page.text.index("5 runs ·") :]
    assert footer.startswith("5 runs · 2026-11-21 to 2026-11-24 · cpu · float32 · torch 2.13.0")
    assert "1 run · 2026-11-23 · NVIDIA H200 · cuda:0 · torch 2.11.0, x <b>" in footer and __version__ in footer


def test_every_colour_of_the_page_has_a_dark_one(outputs: Path) -> None:
    _, text = page_of(outputs)
    style = (files("vlmprune.results") / "page.css").read_text()
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    for block in (light, dark.partition("}")[0]):
        assert set(re.findall(r"var[(](--\w+)[)]", text)) <= set(re.findall(r"(--\w+):", block))
    drawn = text[text.index("<section>") : text.index("<footer>")].lower()
    assert not [color for color in VARIABLES if color.lower() in drawn]  # axes and letters of the charts


def test_the_column_of_methods_stays_in_view(outputs: Path, no_charts: None) -> None:
    page, text = page_of(outputs)
    heads = [attributes for attributes in page.all("th") if attributes.get("class") == "text method"]
    assert len(heads) == 1 and len([each for each in page.all("td") if each.get("class") == "text method"]) == 4
    assert "td.method { position: sticky; left: 0; }" in text


def test_recorded_text_is_text(outputs: Path) -> None:
    make_run(outputs, "cls", 0.75, settings={"start_layer": EVIL}, model=EVIL.replace("/", "|"))
    page, text = page_of(outputs)
    assert len(page.all("script")) == 1 and all("onerror" not in attributes for _, attributes in page.tags)
    assert "alert(1)" in page.text and "<script>alert" not in text and "onerror=alert(2)>" not in text
    assert EVIL in page.text  # the question and the answer


def test_pictures_stand_side_by_side(outputs: Path, no_charts: None) -> None:
    (first, second) = examples_of(rows_of(outputs))
    assert [(example.id, example.row.name) for example in first] == [
        ("q1", "unpruned"),
        ("q1", "cls"),
        ("q1", "random"),
    ]
    assert [(example.id, example.row.name) for example in second] == [("q2", "cls")]
    page, _ = page_of(outputs)
    assert len(page.all("img")) == 4 and "14 of 144 visual tokens" in page.text and NO_EXAMPLES not in page.text


def test_cards_show_the_kept_tokens_without_the_words_of_the_page(tmp_path: Path, no_charts: None) -> None:
    run = make_run(tmp_path, "cls", 0.9)
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    entries = [{"id": f"q{at}", "panels": name} for at, name in enumerate(["kept.png", "../secret.png", "none.png"])]
    picture(run, entries)
    Image.new("RGB", (30, 30), "red").save(run / "pictures" / "kept.png")
    (row,) = rows_of(tmp_path)
    assert [example.file.name for example in read_examples(row)] == ["kept.png"]
    page, _ = page_of(tmp_path)
    assert page.text.count("What is it?") == len(page.all("img")) == 1 and "Faded: dropped." in page.text


def test_without_pictures_one_line_says_so(tmp_path: Path, no_charts: None) -> None:
    make_run(tmp_path, "cls", 0.5)
    page, _ = page_of(tmp_path)
    assert page.text.count(NO_EXAMPLES) == 1 and not page.all("img")


def test_files_outside_the_folder_are_left_out(outputs: Path) -> None:
    (path,) = outputs.glob("*/*/cls-0.9-*")
    Image.new("RGB", (8, 8)).save(outputs / "secret.png")
    picture(
        path, [{"id": "q1"}, {"id": "q2", "file": "../../secret.png"}, {"id": "q3", "file": f"{outputs}/secret.png"}]
    )
    os.symlink(outputs / "secret.png", path / "pictures" / "link.png")
    index = json.loads((path / "pictures" / "index.json").read_text())
    index += [index[0] | {"id": "q4", "file": "link.png"}, index[0] | {"id": "q5", "file": "none.png"}]
    index += [{"id": "q6"}, 7, index[0] | {"id": "q7", "kept": "many"}, index[0] | {"id": "q8", "file": ".."}]
    (path / "pictures" / "index.json").write_text(json.dumps(index))
    (row,) = [row for row in rows_of(outputs) if row.run.path == path]
    assert [example.id for example in read_examples(row)] == ["q1"]


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"file": "0.png"}', "[]"])
def test_a_damaged_index_is_no_picture(outputs: Path, content: str) -> None:
    for path in outputs.glob("*/*/*/pictures/index.json"):
        path.write_text(content)
    assert examples_of(rows_of(outputs)) == []


def test_pictures_are_decoded_and_made_smaller(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 500), "red").save(tmp_path / "large.png")
    uri = data_uri(tmp_path / "large.png")
    assert uri is not None and len(uri) < 20_000 and LONGEST_SIDE < 2000
    data = (tmp_path / "large.png").read_bytes()
    for number, broken in enumerate((b"", b"<svg onload='alert(1)'/>", data[:60], data[:40] + b"x" * 40)):
        (tmp_path / f"{number}.png").write_bytes(broken)
        assert data_uri(tmp_path / f"{number}.png") is None


def test_an_unreadable_picture_is_said_so_and_an_unwritable_page_is_a_user_error(
    outputs: Path, no_charts: None
) -> None:
    for file in outputs.glob("*/*/*/pictures/*.png"):
        file.write_bytes(b"no picture")
    page, _ = page_of(outputs)
    assert page.text.count("no readable picture") == 4 and not page.all("img")
    with pytest.raises(UserError, match="cannot be written"):
        compare([f"outputs={outputs}", f"html={outputs / 'report.html' / 'x.html'}"])
