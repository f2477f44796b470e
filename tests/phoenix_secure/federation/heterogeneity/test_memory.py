"""What a site remembers: whole or not at all, and only from before the round that is repeated."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from phoenix_secure.errors import CheckpointError
from phoenix_secure.federation.heterogeneity.memory import Memory, Remembered

STATE = Remembered(
    round_number=3,
    personal=np.array([1.5, -2.0], np.float32),
    personal_ema=np.array([1.0, -1.0], np.float32),
    num_updates=2,
    failures=1,
    refused=True,
)


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    Memory(tmp_path / "m", keep=2).save(STATE)
    found = Memory(tmp_path / "m", keep=2).of(3)
    assert found is not None
    assert np.array_equal(found.personal, STATE.personal)
    assert np.array_equal(found.personal_ema, STATE.personal_ema)
    assert (found.num_updates, found.failures, found.refused) == (2, 1, True)


def test_the_state_before_a_round_is_never_of_that_round(tmp_path: Path) -> None:
    memory = Memory(tmp_path, keep=3)
    assert memory.before(3) is None
    for number in (3, 5):
        memory.save(replace(STATE, round_number=number))
    assert [memory.before(n).round_number for n in (4, 5, 6)] == [3, 3, 5]
    assert memory.of(4) is None


def test_rounds_that_are_repeated_are_forgotten(tmp_path: Path) -> None:
    memory = Memory(tmp_path, keep=3)
    for number in (3, 4):
        memory.save(replace(STATE, round_number=number))
    memory.forget_after(3)
    assert memory.of(4) is None
    assert memory.of(3) is not None


def test_only_the_newest_rounds_are_kept_and_nobody_else_may_read_them(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "m", keep=2)
    for number in range(1, 6):
        memory.save(replace(STATE, round_number=number))
    files = sorted((tmp_path / "m").iterdir())
    assert [file.stem for file in files] == ["round-000004", "round-000005"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o700


def test_nothing_is_written_before_there_is_something_to_keep(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "m", keep=2)
    memory.forget_after(0)
    assert memory.before(1) is None
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "hostile", "nan", "other", "round"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    memory = Memory(tmp_path, keep=2)
    memory.save(STATE)
    path = tmp_path / "round-000003.safetensors"
    whole = path.read_bytes()
    nan = replace(STATE, personal=np.array([np.nan, 0], np.float32))
    if damage == "nan":
        memory.save(nan)
    elif damage == "round":
        path.write_bytes(whole)
        path = path.rename(tmp_path / "round-000004.safetensors")
    else:
        path.write_bytes(
            {
                "cut": whole[:-3],
                "empty": b"",
                "hostile": b"\xff" * 200,
                "other": save({"personal": STATE.personal}),
            }[damage]
        )
    with pytest.raises(CheckpointError, match=path.name):
        memory.before(9)


def test_a_state_shows_no_parameter_in_its_repr() -> None:
    assert "1.5" not in repr(STATE)
