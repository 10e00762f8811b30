"""experiment= is a paper's set of benchmarks, as an axis of a sweep."""

from __future__ import annotations

import pytest

from tests.benchmarks.fixtures import COUNT, chartqa, ocrbench, write_hub_folder
from vlmprune.cli import main
from vlmprune.config.registry import find_choices, read_choice
from vlmprune.sweep import plan_jobs

SIZES = {"fastervlm": 10, "vtc_cls": 8, "fastervlm_video": 4}
NAMES = sorted(find_choices("experiment"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_method_meets_every_benchmark(name):
    settings = [f"experiment={name}", "model=tiny", "method=cls,fastv", "ratio=0.9", "logger=none"]
    jobs = plan_jobs(settings, None)
    benchmarks = {job.config.names["benchmark"] for job in jobs}
    assert len(benchmarks) == SIZES[name]
    assert len(jobs) == len(benchmarks) * 4  # unpruned, random, cls and fastv
    (override,) = read_choice("experiment", name)["overrides"]
    assert override == "benchmark=" + ",".join(override.partition("=")[2].split(","))


def test_what_is_given_beside_it_goes_first():
    jobs = plan_jobs(["experiment=vtc_cls", "benchmark=pope", "method=none"], None)
    assert [job.config.names["benchmark"] for job in jobs] == ["pope"]


def test_a_sweep_over_local_copies(tmp_path, capsys):
    (tmp_path / "configs/experiment").mkdir(parents=True)
    (tmp_path / "configs/experiment/mine.yaml").write_text("overrides: ['benchmark=chartqa,ocrbench', limit=2]\n")
    for name, row in (("chartqa", chartqa), ("ocrbench", ocrbench)):
        write_hub_folder(tmp_path / "data" / name, read_choice("benchmark", name), [row(k) for k in range(COUNT)])
    settings = ["experiment=mine", "method=cls", "ratio=0.9", "baselines=false", "latency_samples=0", "logger=none"]
    places = [f"data={tmp_path}/data", f"outputs={tmp_path}/out", "benchmark.max_new_tokens=2"]
    assert main(["sweep", "--config-dir", str(tmp_path / "configs"), *settings, *places]) == 0
    assert capsys.readouterr().out.count("%") >= 2
    assert len(list((tmp_path / "out").rglob("result.json"))) == 2
