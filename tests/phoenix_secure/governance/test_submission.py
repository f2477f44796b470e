"""A job is read once, within limits, and every byte of it counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_secure.errors import ConfigError
from phoenix_secure.governance.submission import Submission

FILES = st.dictionaries(
    st.text("ab/.", min_size=1, max_size=4), st.binary(max_size=4), min_size=1, max_size=4
)


@given(FILES, FILES)
def test_digests_are_equal_exactly_when_the_files_are(one, other) -> None:
    assert (Submission(one).digest == Submission(other).digest) == (one == other)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "job" / "code").mkdir(parents=True)
    (tmp_path / "job" / "run.sh").write_bytes(b"#!/bin/bash\n")
    (tmp_path / "job" / "code" / "plan.json").write_bytes(b"{}")
    return tmp_path / "job"


def test_read_gives_names_contents_and_the_code_apart(job: Path) -> None:
    submission = Submission.read(job)
    assert submission.files == {"code/plan.json": b"{}", "run.sh": b"#!/bin/bash\n"}
    assert submission.code == {"plan.json": b"{}"}


def link_a_file(job: Path) -> None:
    (job / "code" / "main.py").symlink_to("/etc/passwd")


def link_a_folder(job: Path) -> None:
    (job / "more").symlink_to("/etc")


def pipe(job: Path) -> None:
    os.mkfifo(job / "code" / "main.py")


def large(job: Path) -> None:
    with (job / "config.yaml").open("wb") as file:
        file.truncate(1 << 40)  # sparse: a terabyte that takes no room


def many(job: Path) -> None:
    for number in range(100):
        (job / f"{number}").write_bytes(b"")


def deep(job: Path) -> None:
    (job / "a/b/c/d/e").mkdir(parents=True)


def gone(job: Path) -> None:
    job.rename(job.with_name("elsewhere"))


def linked(job: Path) -> None:
    job.symlink_to(job.rename(job.with_name("elsewhere")))


def empty(job: Path) -> None:
    (job / "run.sh").unlink()
    (job / "code" / "plan.json").unlink()


@pytest.mark.parametrize(
    "attack", [link_a_file, link_a_folder, pipe, large, many, deep, gone, linked, empty]
)
def test_hostile_jobs_are_refused_in_one_line(job: Path, attack) -> None:
    attack(job)
    with pytest.raises(ConfigError) as caught:
        Submission.read(job)
    assert "\n" not in str(caught.value)
