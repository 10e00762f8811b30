"""One thread at a time uses a session, and its end waits for what still runs."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest
import torch
from transformers import LogitsProcessor

from tests.conftest import make_batch, make_llava
from tests.families.test_guarantees import generate, snapshot
from vlmprune import prune

SECONDS = 30  # that a thread may take


class Pause(LogitsProcessor):
    """Holds a generation at its first token, until it may go on."""

    def __init__(self):
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, _ids, scores):
        self.reached.set()
        assert self.go_on.wait(SECONDS)
        return scores


class Generation(threading.Thread):
    """One generate() in a thread of its own: its answer, or its error."""

    def __init__(self, model, batch, **options):
        super().__init__(name="streamer")
        self.model, self.batch, self.options = model, batch, options
        self.answer = self.error = None

    def run(self):
        try:
            self.answer = generate(self.model, self.batch, **self.options)
        except RuntimeError as error:
            self.error = error


@pytest.mark.parametrize("name", ["cls", "fastv", "none"])
def test_a_second_thread_is_refused(sdpa_model, name):
    batch = make_batch([8])
    with prune(sdpa_model, name, ratio=0.5 if name != "none" else None):
        expected = generate(sdpa_model, batch)
        pause = Pause()
        first = Generation(sdpa_model, batch, logits_processor=[pause])
        first.start()
        assert pause.reached.wait(SECONDS)
        encode = sdpa_model.model.get_image_features
        for use in (
            lambda: generate(sdpa_model, batch),
            lambda: sdpa_model(**batch),
            lambda: encode(batch["pixel_values"]),
        ):
            with pytest.raises(RuntimeError, match="running in thread 'streamer'"):
                use()
        pause.go_on.set()
        first.join(SECONDS)
        assert torch.equal(first.answer, expected)
        after = Generation(sdpa_model, batch)  # one after the other is fine
        after.start()
        after.join(SECONDS)
        assert torch.equal(after.answer, expected)


def test_a_model_for_each_thread():
    batches = make_batch([8]), make_batch([12], seed=1)
    models = make_llava(), make_llava()
    with prune(models[0], "cls", ratio=0.5), prune(models[1], "fastv", ratio=0.5):
        alone = [generate(model, batch) for model, batch in zip(models, batches, strict=True)]
        for _ in range(5):
            threads = [Generation(model, batch) for model, batch in zip(models, batches, strict=True)]
            for thread in threads:
                thread.start()
            for thread, expected in zip(threads, alone, strict=True):
                thread.join(SECONDS)
                assert torch.equal(thread.answer, expected)


def test_the_end_of_the_block_waits_for_a_generation(sdpa_model):
    batch = make_batch([8])
    generate(sdpa_model, batch)  # transformers installs hooks of its own on first use
    before = snapshot(sdpa_model)
    with prune(sdpa_model, "cls", ratio=0.5):
        expected = generate(sdpa_model, batch)
        pause = Pause()
        thread = Generation(sdpa_model, batch, logits_processor=[pause])
        thread.start()
        assert pause.reached.wait(SECONDS)
        threading.Timer(0.2, pause.go_on.set).start()
    assert snapshot(sdpa_model) == before
    thread.join(SECONDS)
    assert torch.equal(thread.answer, expected)


def test_an_error_that_ends_the_block_stops_a_generation(sdpa_model):
    batch = make_batch([8])
    bare = generate(sdpa_model, batch)
    before = snapshot(sdpa_model)
    pause = Pause()
    thread = Generation(sdpa_model, batch, logits_processor=[pause])
    with pytest.raises(ZeroDivisionError), prune(sdpa_model, "cls", ratio=0.5):
        thread.start()
        assert pause.reached.wait(SECONDS)
        raise ZeroDivisionError
    pause.go_on.set()
    thread.join(SECONDS)
    assert "left by an error" in str(thread.error)
    assert snapshot(sdpa_model) == before
    assert torch.equal(generate(sdpa_model, batch), bare)


@pytest.mark.parametrize("name", ["cls", "fastv", "tome", "none"])
def test_copies_inside_the_block(sdpa_model, name):
    batch = make_batch([8])
    parts = [sdpa_model, sdpa_model.model.language_model]
    with prune(sdpa_model, name, ratio=0.5 if name != "none" else None) as session:
        for each in (*parts, session):
            for copied in (copy.deepcopy, pickle.dumps):
                with pytest.raises(RuntimeError, match="cannot be copied or pickled inside"):
                    copied(each)
        pruned = generate(sdpa_model, batch)
    assert torch.equal(generate(copy.deepcopy(sdpa_model), batch), generate(sdpa_model, batch))
    with prune(copy.deepcopy(sdpa_model), name, ratio=0.5 if name != "none" else None) as session:
        assert torch.equal(generate(session.adapter.model, batch), pruned)


def test_a_copy_of_a_part(sdpa_model):
    with prune(sdpa_model, "cls", ratio=0.5):
        tower = copy.deepcopy(sdpa_model.model.vision_tower.encoder.layers[3].self_attn)
    with pytest.raises(RuntimeError, match="was copied inside"):
        tower(torch.zeros(1, 4, 32))


def test_a_shallow_copy_is_no_longer_pruned_after_the_block(sdpa_model):
    batch = make_batch([8])
    bare = generate(sdpa_model, batch)
    with prune(sdpa_model, "cls", ratio=0.5):
        shallow = copy.copy(sdpa_model)
    assert torch.equal(generate(shallow, batch), bare)
