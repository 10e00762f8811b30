"""MVBench's stretches of videos and folders of frames, as the official evaluation reads them."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from tests.benchmarks.fixtures import bar, write_video
from tests.benchmarks.loading import build
from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.tables import ConcatenatedTable, MemoryTable

ROW = {"question": "What moves?", "candidates": ["A", "disc"], "answer": "disc"}


@pytest.fixture
def videos(tmp_path):
    """A whole video in star/Charades_v1_480, a cut one in star/Charades_segment, and ten frames in a folder of tvqa."""
    for folder, name, frames in (("Charades_v1_480", "clip", 9), ("Charades_segment", "cut", 5)):
        (tmp_path / "videos/star" / folder).mkdir(parents=True)
        write_video(tmp_path / "videos/star" / folder / f"{name}.mp4", frames=frames)  # 5 a second
    folder = tmp_path / "videos/tvqa/frames_fps3_hq/castle_s01e01.seg02"
    folder.mkdir(parents=True)
    for k in range(1, 11):
        Image.new("RGB", (8, 8), (20 * k, 0, 0)).save(folder / f"{k:05}.png")
    return tmp_path / "videos"


def load(tmp_path, videos, task, rows):
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data/rows.json").write_text(json.dumps([ROW | row for row in rows]))
    overrides = [f"benchmark.path={tmp_path}/data/rows.json", f"benchmark.videos={videos}", f"benchmark.config={task}"]
    benchmark = build(["benchmark=mvbench", "benchmark.num_frames=1", "benchmark.frames=middles", *overrides])
    return benchmark, benchmark.load()


def test_a_row_is_about_its_seconds(tmp_path, videos):
    rows = [{"video": "clip.mp4", "start": 0.0, "end": 0.5}, {"video": "clip.mp4", "start": 1.0, "end": 1.6}]
    benchmark, samples = load(tmp_path, videos, "action_sequence", rows)
    assert [sample.image_id for sample in samples] == ["clip.mp4 0-0.5 s", "clip.mp4 1-1.6 s"]  # not the same media
    assert [bar(benchmark.images(sample)[0]) for sample in samples] == [1, 7]


def test_other_tasks_and_rows_without_seconds_see_all_of_it(tmp_path, videos):
    rows = [{"video": "clip.mp4", "start": 1.0, "end": 1.6}]
    for task, row in (("moving_count", rows), ("action_sequence", [{"video": "clip.mp4"}])):
        benchmark, (sample,) = load(tmp_path, videos, task, row)
        assert sample.image_id == "clip.mp4" and bar(benchmark.images(sample)[0]) == 4


def test_what_is_cut_already_is_not_cut_again(tmp_path, videos):
    rows = [{"video": "cut.mp4", "start": 21.0, "end": 22.0}]
    benchmark, (sample,) = load(tmp_path, videos, "action_prediction", rows)
    assert sample.image_id == "cut.mp4" and bar(benchmark.images(sample)[0]) == 2


def test_a_folder_of_frames_is_a_video(tmp_path, videos):
    rows = [{"video": "castle_s01e01.seg02", "start": start, "end": 3.4} for start in (0, 2)]
    benchmark, samples = load(tmp_path, videos, "episodic_reasoning", rows)
    reds = [benchmark.images(sample)[0].getpixel((4, 4))[0] // 20 for sample in samples]
    assert reds == [6, 9]  # the middle of frames 1 to 10 and of 7 to 10, three a second
    before = benchmark.identity()
    Image.effect_noise((9, 9), 50).save(videos / "tvqa/frames_fps3_hq/castle_s01e01.seg02/00003.png")
    assert load(tmp_path, videos, "episodic_reasoning", rows)[0].identity() != before


def test_pictures_beside_a_video_are_no_frames(tmp_path, videos):
    (videos / "clip").mkdir()
    (videos / "star/Charades_v1_480/clip.mp4").rename(videos / "clip/clip.mp4")
    Image.new("RGB", (8, 8)).save(videos / "clip/cover.png")
    benchmark, (sample,) = load(tmp_path, videos, "moving_count", [{"video": "clip.mp4"}])
    assert bar(benchmark.images(sample)[0]) == 4


def test_seconds_that_are_not_there(tmp_path, videos):
    rows = [{"video": "clip.mp4", "start": 5, "end": 6}, {"video": "clip.mp4", "start": "x", "end": 6}]
    benchmark, samples = load(tmp_path, videos, "object_interaction", rows)
    for sample, said in zip(samples, ("5-6 s is none of its video, which ends at 1.6 s", "no seconds"), strict=True):
        with pytest.raises(BadSample, match=said):
            benchmark.images(sample)


def test_tasks_with_and_without_seconds_are_one_table():
    """The columns of the first task are not those of all."""
    table = ConcatenatedTable(
        {"moving_count": MemoryTable([{"video": "a"}]), "action_sequence": MemoryTable([{"video": "b", "start": 1}])}
    )
    assert list(table.rows(["video", "start"])) == [
        {"video": "a", "table": "moving_count"},
        {"video": "b", "start": 1, "table": "action_sequence"},
    ]
