"""OpenMP's threads soon sleep while they wait, unless the user says otherwise."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest

from vlmprune import machine
from vlmprune.machine import OPENMP, limit_spinning, openmp_settings


@pytest.fixture
def variables(monkeypatch):
    """The environment as a mapping without variables of OpenMP, in a process that has not imported torch."""
    variables = {name: value for name, value in os.environ.items() if name not in OPENMP}
    monkeypatch.setattr(machine.os, "environ", variables)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    return variables


def test_threads_soon_sleep_while_they_wait(variables):
    limit_spinning()
    assert openmp_settings() == {"GOMP_SPINCOUNT": "1000"}


@pytest.mark.parametrize("name", OPENMP)
def test_a_variable_that_the_user_set_is_all_there_is(name, variables):
    variables[name] = "2"
    limit_spinning()
    assert openmp_settings() == {name: "2"}


def test_it_is_not_recorded_where_torch_has_read_the_environment(variables, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", machine)
    limit_spinning()
    assert openmp_settings() == {}


@pytest.mark.slow
def test_the_library_of_torch_obeys_it():
    """libgomp prints what it found when it is loaded."""
    code = (
        "from vlmprune.cli import _prepare_libraries; _prepare_libraries(); import torch; torch.ones(9).sum();"
        "from vlmprune.machine import openmp_settings; print(openmp_settings())"
    )
    environment = {name: value for name, value in os.environ.items() if name not in OPENMP}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment | {"OMP_DISPLAY_ENV": "VERBOSE"}, capture_output=True, text=True, check=True
    )
    assert "GOMP_SPINCOUNT = '1000'" in done.stderr
    assert ast.literal_eval(done.stdout) == {"GOMP_SPINCOUNT": "1000"}
