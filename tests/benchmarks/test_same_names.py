"""Videos of one name in several folders: the one that the row means, or none."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.benchmarks.fixtures import ROWS, bar, mvbench, open_video, write_hub_folder, write_video
from tests.benchmarks.loading import make
from vlmprune.benchmarks.base import BadSample
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
    film(tmp_path / "videos", star__Charades_segment__X=3, sta__sta_video_segment__X=9)
    for task, shown in (("action_sequence", 1), ("action_localization", 4)):
        row = mvbench(1) | {"video": "X.mp4", "start": 21.0, "end": 22.0}
        benchmark, (sample,) = load(tmp_path, "mvbench", [row], config=task)
        assert bar(benchmark.images(sample)[0]) == shown


def test_every_task_has_a_folder():
    assert sorted(FOLDERS) == sorted(read_choice("benchmark", "mvbench")["tasks"])
    assert FOLDERS["action_localization"] == ["sta/sta_video_segment", "sta/sta_video"]
    assert FOLDERS["fine_grained_pose"] == ["nturgbd_convert", "nturgbd"]
