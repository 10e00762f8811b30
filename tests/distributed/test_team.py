"""Process 0 with others that the test plays: what each is asked, how answers are merged and ends are noticed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.evaluation.test_run_directory import row
from vlmprune.benchmarks.base import Sample
from vlmprune.distributed import team as team_module
from vlmprune.distributed.team import Team, split_questions
from vlmprune.distributed.worker import JOB, REPORT
from vlmprune.errors import ProcessLost, UserError
from vlmprune.evaluation.batching import WINDOW, group_by_image, windows
from vlmprune.evaluation.run_directory import RunDirectory

Part = Callable[[RunDirectory, list[str]], None]  # what a process does in its folder, with its questions
SAMPLES = [Sample(str(number), f"image{number}", "?", "", "all") for number in range(9)]


@pytest.fixture
def plan(tmp_path):
    config = SimpleNamespace(overrides=("ratio=0.9",), config_dir=None, batch_size=4)
    directory = RunDirectory(tmp_path, "print")
    return SimpleNamespace(config=config, directory=directory, device=torch.device("cpu"), dtype=torch.float32)


def team_of(*parts: Part, children: list[subprocess.Popen[str]] | None = None) -> Team:
    """A team whose other processes have done their parts as soon as they begin."""

    def begin(folder: Path) -> None:
        for rank, part in enumerate(parts, start=1):
            share = RunDirectory(folder, "print").share(rank)
            with share.lock():
                report(share)
                part(share, json.loads((share.path / JOB).read_text())["questions"])

    return Team(len(parts) + 1, begin, children or ())


def report(share: RunDirectory, **how: object) -> None:
    (share.path / REPORT).write_text(json.dumps({"device": "cpu"} | how))


def answer_all(share: RunDirectory, questions: list[str]) -> None:
    for name in questions:
        share.append([row(name)], [])
    report(share, seconds=2.0, peak_mb=100.0 + len(questions))


def die(share: RunDirectory, questions: list[str]) -> None:
    share.append([row(questions[0])], [])


def refuse(share: RunDirectory, questions: list[str]) -> None:
    report(share, refused="sample 7: it is torn")


def fail(share: RunDirectory, questions: list[str]) -> None:
    report(share, failed="ValueError: seven")


def run(team: Team, plan: SimpleNamespace, told: list[int]) -> None:
    """Share, answer and wait, as vlmprune.run does with a team."""
    with team.share_questions(plan, SAMPLES) as share:
        advance = team.watch(told.append)
        for sample in share:
            plan.directory.append([row(sample.id)], [])
            advance(1)
        team.wait(told.append)


def answered(directory: RunDirectory) -> list[str]:
    return sorted(row["id"] for row in directory.predictions())


def test_all_answers_come_together(plan):
    told: list[int] = []
    team = team_of(answer_all, answer_all)
    run(team, plan, told)
    assert answered(plan.directory) == [sample.id for sample in SAMPLES]
    assert sum(told) == 9
    assert [(report["seconds"], report["peak_mb"]) for report in team.reports.values()] == [(2.0, 103.0)] * 2
    assert [file.name for file in plan.directory.path.iterdir()] == ["predictions.jsonl"]
    assert not team.closed


def test_the_others_get_the_run_and_their_questions(plan):
    jobs: list[dict] = []
    plan.device = torch.device("cuda")

    def note(share: RunDirectory, questions: list[str]) -> None:
        jobs.append(json.loads((share.path / JOB).read_text()))
        answer_all(share, questions)

    run(team_of(note), plan, [])
    assert jobs[0].pop("questions") == ["1", "3", "5", "7"]
    assert jobs == [{"overrides": ["ratio=0.9"], "config_dir": None, "fingerprint": "print", "device": "cuda"}]


def test_without_others_everything_is_done_here(plan):
    run(Team(1), plan, [])
    assert len(plan.directory.predictions()) == 9


@pytest.mark.parametrize(
    ("part", "error", "message"),
    [
        (die, ProcessLost, r"process 3 of 3 \(cpu\): died; .* every answer so far is kept"),
        (fail, ProcessLost, r"process 3 of 3 \(cpu\): ValueError: seven"),
        (refuse, UserError, "sample 7: it is torn"),
    ],
)
def test_what_goes_wrong_elsewhere_ends_the_run_and_keeps_the_answers(plan, part, error, message):
    team = team_of(answer_all, part)
    with pytest.raises(error, match=message):
        run(team, plan, [])
    assert team.closed
    plan.directory.discard()
    plan.directory.merge_shares()  # as the same command does
    expected = {"0", *("1", "4", "7"), *(["2"] if part is die else [])}  # this process's first, and theirs
    assert {*answered(plan.directory)} == expected


def test_what_goes_wrong_elsewhere_is_noticed_in_the_middle(plan):
    team, told = team_of(die), list[int]()
    with pytest.raises(ProcessLost), team.share_questions(plan, SAMPLES):
        team.watch(told.append)(1)
        pytest.fail("not reached")
    assert told == [1]


def test_a_process_works_as_long_as_it_holds_its_folder(plan):
    with ExitStack() as held:

        def work(folder: Path) -> None:
            held.enter_context(plan.directory.share(1).lock())
            report(plan.directory.share(1))

        team = Team(2, work)
        told: list[int] = []
        with team.share_questions(plan, SAMPLES):
            team.watch(told.append)(1)
            answer_all(plan.directory.share(1), ["1", "3"])
            team._looked = 0.0
            team.watch(told.append)(1)
            assert told == [1, 0, 1, 2] and not team.reports
            held.close()
            team.wait(told.append)
    assert answered(plan.directory) == ["1", "3"]


def start_child(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True)


def test_an_error_here_ends_the_children(plan):
    children = [start_child("input()"), start_child("input()")]
    team = team_of(answer_all, answer_all, children=children)
    with pytest.raises(KeyboardInterrupt), team.share_questions(plan, SAMPLES):
        raise KeyboardInterrupt
    assert [child.poll() for child in children] == [-9, -9]


@pytest.mark.parametrize(
    ("part", "said"), [(die, r"process 2 of 2 \(cpu\): exit code 3"), (None, "process 2 of 2: exit code 3")]
)
def test_how_a_child_ended_is_told(plan, part, said):
    child = start_child("raise SystemExit(3)")
    child.wait()
    team = team_of(part, children=[child]) if part else Team(2, children=[child])
    with pytest.raises(ProcessLost, match=said):
        run(team, plan, [])


def test_a_process_of_a_launcher_that_does_not_see_the_folder(plan, monkeypatch):
    monkeypatch.setattr(team_module, "BEGIN_SECONDS", 0.0)
    with pytest.raises(ProcessLost, match=r"process 2 of 2: did not find .*processes/1"):
        run(Team(2), plan, [])


def test_a_full_disk_is_told_and_the_answers_are_merged_once_there_is_room(plan, monkeypatch):
    def full(*_: object) -> None:
        raise UserError("No space left on device")

    team = team_of(answer_all)
    with pytest.raises(UserError, match="No space left"), team.share_questions(plan, SAMPLES):
        team.wait(lambda _: None)
        monkeypatch.setattr(RunDirectory, "append", full)
    monkeypatch.undo()
    plan.directory.merge_shares()
    assert answered(plan.directory) == ["1", "3", "5", "7"]


def questions(images: int, most: int, seed: int) -> list[Sample]:
    """Up to `most` questions about each image, in no order."""
    draw = random.Random(seed)
    pairs = [(image, number) for image in range(images) for number in range(draw.randint(1, most))]
    draw.shuffle(pairs)
    return [Sample(f"{image}-{number}", f"image{image}", "?", "", "all") for image, number in pairs]


@pytest.mark.parametrize("same_batches", [False, True])
@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_every_question_is_dealt_once(processes, same_batches):
    samples = questions(50, 9, seed=processes)
    shares = split_questions(samples, processes, 2, same_batches)
    assert len(shares) == processes
    assert sorted(sample.id for share in shares for sample in share) == sorted(sample.id for sample in samples)


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_an_image_stays_with_one_process_and_shares_are_balanced(processes):
    shares = split_questions(questions(50, 9, seed=0), processes, 32, same_batches=False)
    images = [{sample.image_id for sample in share} for share in shares]
    assert sum(map(len, images)) == len(set.union(*images)) == 50
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 9


@pytest.mark.parametrize("batch_size", [1, 3, 4])
@pytest.mark.parametrize("processes", [2, 3, 8])
def test_in_half_precision_a_process_goes_through_windows_of_the_one_process(processes, batch_size):
    """They are asked together as by one process, whatever sorts and groups a window."""
    samples = questions(40, 12, seed=batch_size)
    alone = [window for window, _ in windows(group_by_image(samples), batch_size)]
    shares = split_questions(samples, processes, batch_size, same_batches=True)
    shared = [window for share in shares for window, _ in windows(group_by_image(share), batch_size)]
    assert sorted(shared, key=alone.index) == alone
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= WINDOW * batch_size


def test_fewer_images_than_processes_leave_some_without_work():
    shares = split_questions(questions(2, 3, seed=1), 4, 32, same_batches=False)
    assert [len({sample.image_id for sample in share}) for share in shares] == [1, 1, 0, 0]
