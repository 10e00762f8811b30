"""The chart: drawn, not blank, deterministic, and its text where a reader looks for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.report.synthetic import make_run
from vlmprune.errors import UserError
from vlmprune.report.compare import compare


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    make_run(tmp_path, "none")
    for ratio in (0.5, 0.9):
        make_run(tmp_path, "random", ratio)
        make_run(tmp_path, "cls", ratio)
    make_run(tmp_path, "cls", 1.0)
    return tmp_path


def test_png_is_readme_wide_and_not_blank(outputs: Path, tmp_path: Path) -> None:
    file = tmp_path / "docs" / "chart.png"
    assert compare([str(outputs), f"chart={file}"]) == 0
    pixels = np.asarray(Image.open(file).convert("RGB")).astype(int)
    assert 880 <= pixels.shape[1] <= 1000
    for half in (pixels[:, :480], pixels[:, 480:]):
        assert (half.min(2) < 250).mean() > 0.02
        assert (np.abs(half - (0x00, 0x72, 0xB2)).sum(2) < 12).sum() > 100  # the first method's blue line


def test_svg_has_its_text_and_is_reproducible(outputs: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    compare([str(outputs), f"chart={first}", "method=cls"])
    compare([str(outputs), f"chart={second}", "method=cls"])
    text = first.read_text()
    for words in ("unpruned", "blind", "cls", "GFLOPs per question", "visual tokens removed (%)", "accuracy (%)"):
        assert words in text
    assert "random" not in text.replace("Random", "")
    assert first.read_bytes() == second.read_bytes()


def test_every_group_has_its_panels(outputs: Path, tmp_path: Path) -> None:
    make_run(outputs, "cls", 0.5, model="llava")
    make_run(outputs, "none", benchmark="gqa")  # a group with nothing but a reference
    file = tmp_path / "chart.svg"
    compare([str(outputs), f"chart={file}"])
    text = file.read_text()
    assert "tiny on scenes" in text and "llava on scenes" in text and "tiny on gqa" in text


def test_unwritable_chart_is_a_user_error(outputs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        compare([str(outputs), f"chart={tmp_path / 'file' / 'chart.png'}"])
