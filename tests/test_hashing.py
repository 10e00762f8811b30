"""Content hashes of local data: of what is in the files, read once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from vlmprune import hashing


@pytest.fixture
def reads(monkeypatch, tmp_path):
    """Names of the files that were read for a hash, as they are read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    read, original = [], hashlib.file_digest

    def digest(file, name):
        read.append(Path(file.name).name)
        return original(file, name)

    monkeypatch.setattr(hashlib, "file_digest", digest)
    return read


def test_large_files_are_read_once_until_they_change(reads, tmp_path):
    large, small = tmp_path / "large", tmp_path / "small"
    large.write_bytes(b"x" * hashing.MIN_CACHED_BYTES)
    small.write_bytes(b"y")
    first = hashing.content_identity([large, small])
    assert hashing.content_identity([small, large]) == first
    assert reads == ["large", "small", "small"]
    large.write_bytes(b"z" * hashing.MIN_CACHED_BYTES)
    os.utime(large, ns=(1, 1))  # a file system may not tell two writes within a tick apart
    assert hashing.content_identity([large, small]) != first


def test_a_folder_that_cannot_be_written_costs_time_only(reads, tmp_path):
    (tmp_path / "cache").write_text("not a folder")
    large = tmp_path / "large"
    large.write_bytes(b"x" * hashing.MIN_CACHED_BYTES)
    assert hashing.content_identity([large]) == hashing.content_identity([large])
    assert reads == ["large", "large"]


def test_a_damaged_cache_is_ignored(reads, tmp_path):
    (tmp_path / "cache/vlmprune").mkdir(parents=True)
    (tmp_path / "cache/vlmprune/sha256.json").write_text("{")
    (tmp_path / "small").write_bytes(b"y")
    assert hashing.content_identity([tmp_path / "small"]).startswith("sha256:")
