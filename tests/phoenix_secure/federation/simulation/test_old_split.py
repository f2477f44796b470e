"""Run folders from before the keyed split go on with the split, and the bytes, they began with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.audit.images import images_of_run
from phoenix_secure.config import RunConfig
from phoenix_secure.config_file import load_config
from phoenix_secure.data.split import load_split
from phoenix_secure.errors import DataError
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites

RECORD = ["privacy.unit=record", "privacy.noise_multiplier=1.0", "privacy.sampling_rate=0.1"]


def old(config: RunConfig) -> RunConfig:
    """Settings as such a folder's are read: they name no scheme, and mean the stratified one."""
    data = config.data.model_copy(update={"split": "stratified"})
    return config.model_copy(update={"data": data})


@pytest.mark.long
@pytest.mark.parametrize("unit", [[], RECORD], ids=["none", "record"])
def test_an_old_folder_is_resumed_and_audited_with_its_own_split(
    unit: list[str], tiny_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    config = load_config(None, [*tiny_settings, *unit, "federation.rounds=2"])
    begun = Run(SimulatedSites(old(config), cache_dir=cache_dir))
    folder = RunFolder(tmp_path / "run")
    next(begun.rounds(begun.start(folder, overwrite=False), folder))
    assert "split:" not in folder.config_file.read_text()
    kept = load_split(folder.split_file)
    assert kept.scheme == "stratified"

    resumed = Run(SimulatedSites(folder.load_config(), cache_dir=cache_dir))
    state = resumed.resume(folder)
    assert state.round_number == 1
    assert np.array_equal(resumed.backend.partition.split.members, kept.members)
    for _ in resumed.rounds(state, folder):
        pass
    guarantee = resumed.backend.guarantee(folder)
    assert ("split and partition" in guarantee.text) == bool(unit)
    audited = images_of_run(folder, cache_dir=cache_dir)
    assert audited.members.num_images == len(kept.members)


def test_a_new_private_run_spells_its_split_out_and_keeps_it(
    tiny_settings: list[str], tmp_path: Path, cache_dir: Path
) -> None:
    config = load_config(
        None, [*tiny_settings, *RECORD, "partition.scheme=iid", "data.max_images=null"]
    )
    begun = Run(SimulatedSites(config, cache_dir=cache_dir))
    folder = RunFolder(tmp_path / "run")
    begun.start(folder, overwrite=False)
    assert "split: keyed" in folder.config_file.read_text()
    assert load_split(folder.split_file).scheme == "keyed"
    again = Run(SimulatedSites(folder.load_config(), cache_dir=cache_dir))
    assert again.resume(folder).round_number == 0
    assert "fixed" not in again.backend.guarantee(folder).text
    # An audit finds the members of the kept split, in its order.
    audited = images_of_run(folder, cache_dir=cache_dir)
    split = again.backend.partition.split
    expected = again.backend.partition.image_set.images[split.members]
    assert np.array_equal(audited.members.images, expected)
    # Settings that lead to another split than the kept one do not go on.
    folder.config_file.write_text(folder.config_file.read_text().replace("  split: keyed\n", ""))
    changed = Run(SimulatedSites(folder.load_config(), cache_dir=cache_dir))
    with pytest.raises(DataError, match="names other members"):
        changed.resume(folder)
