"""Checkpoints: an exact round trip, and damage that is always noticed and named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phoenix_secure.config import FederationConfig
from phoenix_secure.errors import CheckpointError
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.checkpoint import (
    checkpoint_path,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)


def state(round_number: int = 3, optimizer: str = "fedadam") -> ServerState:
    parameters = np.linspace(-1, 1, 50, dtype=np.float32)
    first = ServerState.initial(parameters, federation=FederationConfig(server_optimizer=optimizer))
    return ServerState(
        round_number=round_number,
        parameters=parameters,
        ema=parameters * 2,
        momentum=first.momentum,
        second_moment=first.second_moment,
    )


@pytest.mark.parametrize("optimizer", ["fedavg", "fedavgm", "fedyogi"])
def test_round_trip_is_exact(tmp_path: Path, optimizer: str) -> None:
    saved = state(optimizer=optimizer)
    path = save_checkpoint(saved, tmp_path, settings_hash="h", keep=1)
    loaded = load_checkpoint(path, settings_hash="h")
    assert loaded.round_number == 3
    for name in ("parameters", "ema", "momentum", "second_moment"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name))


def test_an_adaptive_norm_is_kept_to_the_last_bit(tmp_path: Path) -> None:
    saved = dataclasses.replace(state(), clip_factor=0.1 + 0.2)
    path = save_checkpoint(saved, tmp_path, settings_hash="h", keep=1)
    assert load_checkpoint(path, settings_hash="h").clip_factor == 0.1 + 0.2
    path.write_bytes(path.read_bytes().replace(b"0.30000000000000004", b"0.30000000000000009"))
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path, settings_hash="h")


def test_a_checkpoint_of_another_version_is_not_called_damaged(tmp_path: Path) -> None:
    path = save_checkpoint(state(), tmp_path, settings_hash="h", keep=1)
    path.write_bytes(path.read_bytes().replace(b"checkpoint/v2", b"checkpoint/v1"))
    with pytest.raises(CheckpointError, match="another version"):
        load_checkpoint(path, settings_hash="h")


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for number in range(12):
        save_checkpoint(state(number), tmp_path, settings_hash="h", keep=2)
    assert [number for number, _ in list_checkpoints(tmp_path)] == [10, 11]
    assert len(list(tmp_path.iterdir())) == 2


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_or_missing_byte_is_noticed(tmp_path: Path, data: st.DataObject) -> None:
    path = save_checkpoint(state(), tmp_path, settings_hash="h", keep=1)
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:position]
    else:
        content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        loaded = load_checkpoint(path, settings_hash="h")
    except CheckpointError:
        return
    # Only text that decides nothing may change unseen: here, padding inside the JSON header.
    np.testing.assert_array_equal(loaded.parameters, state().parameters)
    np.testing.assert_array_equal(loaded.ema, state().ema)
    assert loaded.round_number == 3


def test_damage_names_the_file_and_the_way_out(tmp_path: Path) -> None:
    save_checkpoint(state(3), tmp_path, settings_hash="h", keep=2)
    path = save_checkpoint(state(4), tmp_path, settings_hash="h", keep=2)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match=r"round-000004.*damaged: delete it .*round-000003"):
        load_checkpoint(path, settings_hash="h")
    only = checkpoint_path(tmp_path, round_number=3)
    only.write_bytes(b"")
    with pytest.raises(CheckpointError, match="start the run again with --overwrite"):
        load_checkpoint(only, settings_hash="h")


def test_missing_and_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(tmp_path / "round-000001.safetensors", settings_hash="h")
    path = save_checkpoint(state(), tmp_path, settings_hash="h", keep=1)
    with pytest.raises(CheckpointError, match="other settings"):
        load_checkpoint(path, settings_hash="changed")
