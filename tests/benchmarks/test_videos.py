"""The video, or the part of one, that a row means: by name, folder, task and seconds."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from tests.benchmarks.fixtures import ROWS, bar, mvbench, open_video, write_hub_folder, write_video
from tests.benchmarks.loading import make
from vlmprune.benchmarks.base import BadSample
from vlmprune.benchmarks.tables import ConcatenatedTable, MemoryTable
from vlmprune.config.registry import read_choice
from vlmprune.hashing import listing_identity

FOLDERS = read_choice("benchmark", "mvbench")["folders"]


def film(folder, **frames):
    """Videos of a second's fifths: name -> how many; "/" is written as "__"."""
    for name, count in frames.items():
        file = folder / f"{name.replace('__', '/')}.mp4"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_video(file, frames=count)


def load(tmp_path, name, rows, **settings):
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    where = {"path": f"{tmp_path}/rows.json", "videos": f"{tmp_path}/videos", "num_frames": 1, "frames": "middles"}
    benchmark = make(name, **where, **settings)
    return benchmark, benchmark.load()


def test_activitynets_files_have_a_prefix(tmp_path):
    film(tmp_path / "videos/all_test", v_1QIU=3, plain=9)
    rows = [open_video(k) | {"video_name": name} for k, name in enumerate(("1QIU", "plain", "none"))]
    benchmark, samples = load(tmp_path, "activitynet", rows)
    assert [bar(benchmark.images(sample)[0]) for sample in samples[:2]] == [1, 4]
    with pytest.raises(BadSample, match="its video v_none is missing"):
        benchmark.images(samples[2])


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("msvd", "video_name"),
        ("msrvtt", "video_name"),
        ("tgif", "video_name"),
        ("egoschema", "video_idx"),
        ("nextqa_mc", "video"),
        ("videomme", "videoID"),
        ("activitynet", "video_name"),
    ],
)
def test_a_bare_name_in_two_folders_names_none(name, column, tmp_path):
    film(tmp_path / "videos", a__clip=9, b__clip=3)
    rows = [ROWS[name](k) | {column: given} for k, given in enumerate(("clip", "b/clip", "./a/clip.mp4", "c/clip.mp4"))]
    benchmark, samples = load(tmp_path, name, rows)
    found = {sample.image_id: sample for sample in samples}
    assert bar(benchmark.images(found["b/clip"])[0]) == 1 and bar(benchmark.images(found["./a/clip.mp4"])[0]) == 4
    with pytest.raises(BadSample, match=r"there several times \(a/clip\.mp4, b/clip\.mp4\): name the folder"):
        benchmark.images(found["clip"])
    with pytest.raises(
        BadSample, match=r"c/(v_)?clip\.mp4 is missing \(there is a/clip\.mp4, b/clip\.mp4, elsewhere\)"
    ):
        benchmark.images(found["c/clip.mp4"])


def test_the_suffix_tells_files_of_one_folder_apart(tmp_path):
    film(tmp_path / "videos", clip=9, other=3)
    shutil.copy(tmp_path / "videos/other.mp4", tmp_path / "videos/clip.webm")
    benchmark, samples = load(
        tmp_path, "msvd", [open_video(k) | {"video_name": f"clip{s}"} for k, s in enumerate((".webm", ""))]
    )
    assert bar(benchmark.images(samples[0])[0]) == 1
    with pytest.raises(BadSample, match="several times"):
        benchmark.images(samples[1])


def test_where_files_of_one_name_lie_is_part_of_the_data(tmp_path):
    for name, size in (("a/x.mp4", 1), ("b/x.mp4", 2), ("y.mp4", 1)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"0" * size)
    files = [tmp_path / "a/x.mp4", tmp_path / "b/x.mp4", tmp_path / "y.mp4"]
    before = listing_identity(files, tmp_path)
    files[2] = files[2].rename(tmp_path / "a/y.mp4")
    assert listing_identity(files, tmp_path) == before
    files[0].write_bytes(b"00")
    files[1].write_bytes(b"0")
    assert listing_identity(files, tmp_path) != before


def tasks(tmp_path):
    """MVBench's rows about video_1.mp4 in two tasks, from a stand-in of its dataset."""
    names = ["moving_count", "action_count"]
    settings = read_choice("benchmark", "mvbench") | {"tasks": names}
    write_hub_folder(tmp_path / "hub", settings, [mvbench(1) | {"video": "video_1.mp4"}])
    where = {"path": f"{tmp_path}/hub", "videos": f"{tmp_path}/videos", "num_frames": 1, "frames": "middles"}
    benchmark = make("mvbench", **where, tasks=names)
    return benchmark, benchmark.load()


def test_each_task_of_mvbench_has_its_own_folder(tmp_path):
    film(tmp_path / "videos", video__clevrer__video_validation__video_1=9, video__perception__videos__video_1=3)
    benchmark, samples = tasks(tmp_path)
    assert [sample.image_id for sample in samples] == [
        "clevrer/video_validation/video_1.mp4",
        "perception/videos/video_1.mp4",
    ]
    assert [bar(benchmark.images(sample)[0]) for sample in samples] == [4, 1]


def test_another_tasks_video_is_none_of_this_one(tmp_path):
    film(tmp_path / "videos", clevrer__video_validation__video_1=9)
    benchmark, (counted, other) = tasks(tmp_path)
    assert bar(benchmark.images(counted)[0]) == 4
    with pytest.raises(BadSample, match=r"video_1\.mp4 is missing \(there is clevrer/video_validation/video_1\.mp4"):
        benchmark.images(other)


def test_one_task_alone_finds_its_folder_too(tmp_path):
    """Where its videos are cut already, and are not cut again."""
    film(tmp_path / "videos", star__Charades_segment__X=3, sta__sta_video_segment__X=9)
    for task, shown in (("action_sequence", 1), ("action_localization", 4)):
        row = mvbench(1) | {"video": "X.mp4", "start": 21.0, "end": 22.0}
        benchmark, (sample,) = load(tmp_path, "mvbench", [row], config=task)
        assert sample.image_id == "X.mp4" and bar(benchmark.images(sample)[0]) == shown


def test_every_task_has_a_folder():
    assert sorted(FOLDERS) == sorted(read_choice("benchmark", "mvbench")["tasks"])
    assert FOLDERS["action_localization"] == ["sta/sta_video_segment", "sta/sta_video"]
    assert FOLDERS["fine_grained_pose"] == ["nturgbd_convert", "nturgbd"]


def seconds(tmp_path, task, *rows):
    """Rows of one task of MVBench: of a whole video in star/Charades_v1_480, or of ten frames in a folder of tvqa."""
    film(tmp_path / "videos/star/Charades_v1_480", clip=9)  # 5 a second
    frames = tmp_path / "videos/tvqa/frames_fps3_hq/castle_s01e01.seg02"
    frames.mkdir(parents=True, exist_ok=True)
    for k in range(1, 11):
        Image.new("RGB", (8, 8), (20 * k, 0, 0)).save(frames / f"{k:05}.png")
    return load(tmp_path, "mvbench", [mvbench(1) | row for row in rows], config=task)


def test_a_row_is_about_its_seconds(tmp_path):
    rows = [{"video": "clip.mp4", "start": 0.0, "end": 0.5}, {"video": "clip.mp4", "start": 1.0, "end": 1.6}]
    benchmark, samples = seconds(tmp_path, "action_sequence", *rows)
    assert [sample.image_id for sample in samples] == ["clip.mp4 0-0.5 s", "clip.mp4 1-1.6 s"]  # not the same media
    assert [bar(benchmark.images(sample)[0]) for sample in samples] == [1, 7]


def test_other_tasks_and_rows_without_seconds_see_all_of_it(tmp_path):
    cut = {"video": "clip.mp4", "start": 1.0, "end": 1.6}
    for task, row in (("moving_count", cut), ("action_sequence", {"video": "clip.mp4"})):
        benchmark, (sample,) = seconds(tmp_path, task, row)
        assert sample.image_id == "clip.mp4" and bar(benchmark.images(sample)[0]) == 4


def test_a_folder_of_frames_is_a_video(tmp_path):
    rows = [{"video": "castle_s01e01.seg02", "start": start, "end": 3.4} for start in (0, 2)]
    benchmark, samples = seconds(tmp_path, "episodic_reasoning", *rows)
    reds = [benchmark.images(sample)[0].getpixel((4, 4))[0] // 20 for sample in samples]
    assert reds == [6, 9]  # the middle of frames 1 to 10 and of 7 to 10, three a second
    before = benchmark.identity()
    Image.effect_noise((9, 9), 50).save(tmp_path / "videos/tvqa/frames_fps3_hq/castle_s01e01.seg02/00003.png")
    benchmark.load()
    assert benchmark.identity() != before


def test_pictures_beside_a_video_are_no_frames(tmp_path):
    film(tmp_path / "videos/clip", clip=9)
    Image.new("RGB", (8, 8)).save(tmp_path / "videos/clip/cover.png")
    benchmark, (sample,) = load(tmp_path, "mvbench", [mvbench(1) | {"video": "clip.mp4"}], config="moving_count")
    assert bar(benchmark.images(sample)[0]) == 4


def test_seconds_that_are_not_there(tmp_path):
    rows = [{"video": "clip.mp4", "start": 5, "end": 6}, {"video": "clip.mp4", "start": "x", "end": 6}]
    benchmark, samples = seconds(tmp_path, "object_interaction", *rows)
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
