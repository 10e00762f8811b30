"""The shipped checkpoint: a plain LLaVA that loads offline and answers; and its training, which runs to the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.tiny_model.packing import Packer
from scripts.tiny_model.tower import normalise
from vlmprune.tiny import CHECKPOINT
from vlmprune.tiny.testset import load_test_split

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def processor():
    return transformers.AutoProcessor.from_pretrained(CHECKPOINT, local_files_only=True)


@pytest.fixture(scope="module")
def model():
    return transformers.LlavaForConditionalGeneration.from_pretrained(
        CHECKPOINT, dtype=torch.float32, local_files_only=True
    ).eval()


def chat(image, question: str) -> list[dict]:
    content = [{"type": "image", "image": image}, {"type": "text", "text": question}]
    return [{"role": "user", "content": content}]


def encode(processor, rows: list[dict]):
    return processor.apply_chat_template(
        [chat(row["image"], row["question"]) for row in rows],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    )


def test_it_is_a_llava_with_144_visual_tokens(model, processor) -> None:
    config = model.config
    assert config.text_config.num_hidden_layers >= 6
    assert config.vision_feature_layer == -2 and config.vision_feature_select_strategy == "default"
    row = load_test_split()[0]
    inputs = encode(processor, [row])
    assert int((inputs["input_ids"] == config.image_token_index).sum()) == 144
    assert sum(f.stat().st_size for f in CHECKPOINT.iterdir()) < 10_000_000


def test_inference_prompt_equals_training_prompt(processor) -> None:
    row = load_test_split()[0]
    inputs = encode(processor, [row])
    packer = Packer(processor.tokenizer)
    tokens, prompt = packer.segment(row["question"], row["answer"])
    assert inputs["input_ids"][0].tolist() == packer.prefix + tokens[:prompt]
    trained_on = normalise(np.array(row["image"])[None], torch.device("cpu"))
    torch.testing.assert_close(inputs["pixel_values"], trained_on, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_it_answers(model, processor) -> None:
    rows = [load_test_split()[i] for i in range(60)]
    right = 0
    for start in range(0, 60, 20):
        batch = rows[start : start + 20]
        inputs = encode(processor, batch)
        with torch.inference_mode():
            output = model.generate(**inputs)
        answers = processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        right += sum(a.strip() == row["answer"] for a, row in zip(answers, batch, strict=True))
    assert right >= 48


@pytest.mark.slow
def test_training_writes_a_checkpoint_that_loads(tmp_path) -> None:
    """A few steps of each stage, as users start it."""
    command = [sys.executable, "-m", "scripts.tiny_model.train", "--smoke", "--threads", "1", "--out", tmp_path]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in CHECKPOINT.iterdir()}
    trained = transformers.LlavaForConditionalGeneration.from_pretrained(tmp_path, local_files_only=True)
    shipped = transformers.LlavaForConditionalGeneration.from_pretrained(CHECKPOINT, local_files_only=True)
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (trained, shipped)]
    assert shapes[0] == shapes[1]
