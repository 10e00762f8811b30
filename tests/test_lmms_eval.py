"""The model `vlmprune` of lmms-eval: its own program, in an environment of its own, on a local task.

lmms-eval's requirements (antlr 4.7, an older W&B) exclude those of vlmprune's command line, so that the environment has
the wheel of vlmprune without its requirements: Hydra cannot be imported, and OmegaConf meets an antlr that is too old.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from transformers import AutoProcessor, LlavaForConditionalGeneration

from vlmprune import prune
from vlmprune.tiny import CHECKPOINT, load_test_split

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
# Of lmms-eval's requirements those that its program and the model llava_hf import; torch and others are shared.
LMMS_EVAL = ["lmms-eval==0.7.3", "decord"]
NEEDS = "evaluate jsonlines aiohttp numexpr peft pytablewriter sacrebleu loguru tenacity zss python-dotenv filelock<4"
MORE = ["tqdm-multiprocess", "latex2sympy2", "sentencepiece"]
QUESTIONS, NEW = 24, 8
TASK = """
dataset_path: {data}
dataset_kwargs:
  load_from_disk: true
task: scenes_lmms
test_split: test
output_type: generate_until
doc_to_visual: !function utils.picture
doc_to_text: question
doc_to_target: answer
generation_kwargs:
  max_new_tokens: {new}
  temperature: 0
process_results: !function utils.score
metric_list:
  - metric: accuracy
    aggregation: mean
    higher_is_better: true
metadata:
  - version: 0.0
"""
UTILS = """
def picture(doc):
    return [doc["image"].convert("RGB")]


def score(doc, results):
    return {"accuracy": float(results[0].strip() == doc["answer"])}
"""


@dataclass
class LmmsEval:
    """lmms-eval's program in its environment. python: of the environment."""

    python: Path
    folder: Path

    def ask(self, model: str, arguments: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run the task with --model and --model_args of a model on the embedded checkpoint."""
        where = [
            "--device",
            "cpu",
            "--include_path",
            str(self.folder / "task"),
            "--output_path",
            str(self.folder / "out"),
        ]
        given = f"{arguments},pretrained={CHECKPOINT},dtype=float32,device_map=cpu".strip(",")
        command = [self.python, "-m", "lmms_eval", "--model", model, "--model_args", given, "--tasks", "scenes_lmms"]
        environment = os.environ | {"PYTHONPATH": str(self.folder / "blocked"), "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            [*command, *where, "--batch_size", "1", *more],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=environment,
        )

    def answers(self, model: str, arguments: str, *more: str) -> tuple[list[str], str]:
        """Return the model's answers in the order of the questions, and lmms-eval's table."""
        done = self.ask(model, arguments, "--log_samples", *more)
        assert done.returncode == 0 and "|scenes_lmms|" in done.stdout, done.stdout + done.stderr
        newest = max((self.folder / "out").rglob("*_samples_*.jsonl"), key=lambda file: file.stat().st_mtime_ns)
        rows = sorted(map(json.loads, newest.read_text().splitlines()), key=lambda row: row["doc_id"])
        return ["".join(row["filtered_resps"]).strip() for row in rows], done.stdout


@pytest.fixture(scope="module")
def lmms_eval(tmp_path_factory) -> LmmsEval:
    from datasets import DatasetDict

    folder = tmp_path_factory.mktemp("lmms")
    venv.create(folder / "venv", with_pip=False)  # this environment's pip serves it: one of its own costs ten seconds
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "--quiet"]
    (site,) = (folder / "venv").glob("lib/*/site-packages")
    (site / "zz_shared.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    for packages in (["--no-deps", *LMMS_EVAL], [*NEEDS.split(), *MORE]):
        done = subprocess.run([*pip, *packages], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"lmms-eval cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    (folder / "build.cfg").write_text(f"[build]\nbuild_base = {folder / 'build'}\n")
    building = os.environ | {"DIST_EXTRA_CONFIG": str(folder / "build.cfg")}
    subprocess.run([*pip, "--no-deps", str(ROOT)], check=True, env=building)

    (folder / "blocked").mkdir()
    (folder / "blocked" / "hydra.py").write_text("raise ImportError('hydra is not installed')\n")
    antlr = [python, "-c", "from importlib.metadata import version; print(version('antlr4-python3-runtime'))"]
    assert subprocess.run(antlr, capture_output=True, text=True, check=True).stdout.startswith("4.7.")
    DatasetDict(test=load_test_split().select(range(QUESTIONS))).save_to_disk(folder / "data")
    (folder / "task").mkdir()
    (folder / "task" / "scenes_lmms.yaml").write_text(TASK.format(data=folder / "data", new=NEW))
    (folder / "task" / "utils.py").write_text(UTILS)
    return LmmsEval(python, folder)


def own_answers(method: str, **settings) -> list[str]:
    """The answers of a plain session."""
    model = LlavaForConditionalGeneration.from_pretrained(CHECKPOINT, dtype="float32")
    processor = AutoProcessor.from_pretrained(CHECKPOINT)
    answers = []
    for row in load_test_split().select(range(QUESTIONS)):
        content = [{"type": "image"}, {"type": "text", "text": row["question"]}]
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = processor(images=row["image"].convert("RGB"), text=prompt, return_tensors="pt")
        with prune(model, method, **settings):
            output = model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
        answers.append(processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    return answers


# The older interface gives the template a string in place of a list of parts, which the checkpoint's does not read.
TEMPLATE = ",chat_template=USER: {{messages[0]['content']}} ASSISTANT:"


@pytest.mark.parametrize(("interface", "template"), [((), ""), (("--force_simple",), TEMPLATE)], ids=["chat", "simple"])
def test_the_table_is_that_of_the_pruned_model(lmms_eval, interface, template):
    given = "model=llava_hf,method=random,ratio=0.9,method.seed=3" + template
    answers, printed = lmms_eval.answers("vlmprune", given, *interface)
    expected = own_answers("random", ratio=0.9, seed=3)
    assert answers == expected
    truth = load_test_split().select(range(QUESTIONS))["answer"]
    accuracy = sum(ours == row for ours, row in zip(expected, truth, strict=True)) / QUESTIONS
    (value,) = re.findall(r"\|scenes_lmms\|.*\|accuracy\|.*?\|([\d.]+)\|±", printed.replace(" ", ""))
    assert float(value) == pytest.approx(accuracy, abs=1e-4)


def test_the_unpruned_model_answers_as_lmms_evals_own(lmms_eval):
    assert lmms_eval.answers("vlmprune", "model=llava_hf,method=none")[0] == lmms_eval.answers("llava_hf", "")[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("method=cls,ratio=0.9", "--model_args: expected model=NAME, a Hugging Face model of lmms-eval"),
        ("model=llava_hf,method=clss,ratio=0.9", "did you mean 'cls'?"),
        ("model=llava_hf,method=cls", "no amount given, so nothing would be pruned: give ratio= or keep="),
        # lmms-eval's model logs this error of generate() and would go on with empty answers
        ("model=llava_hf,method=fastv,ratio=0.5,use_cache=False", "every step would prune anew"),
    ],
)
def test_what_cannot_work_ends_with_its_reason_and_without_a_table(lmms_eval, arguments, message):
    done = lmms_eval.ask("vlmprune", arguments)
    assert message in done.stdout + done.stderr and "|scenes_lmms|" not in done.stdout
