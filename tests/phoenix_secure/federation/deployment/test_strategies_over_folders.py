"""Strategies between machines, over folders: the weights of one process, a memory at each site."""

from __future__ import annotations

import numpy as np
import pytest

from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.run.folder import RunFolder

STRATEGIES = (
    "sharing.source=public",
    "sharing.name=mnist-5k",
    "sharing.num_images=20",
    "sharing.warmup_steps=2",
    "exchange.personal=[last-layers]",
    "exchange.upload=alternate",
)


@pytest.mark.slow
def test_strategies_over_folders_give_the_weights_of_one_process(
    folder_federation, tmp_path
) -> None:
    folder_federation.start()
    job, folder = folder_federation.job(*STRATEGIES), RunFolder(tmp_path / "run")
    state = job.start(folder, overwrite=True)
    list(job.rounds(state, folder))
    summary = job.finish(folder)
    assert summary.strategies["sharing"]["num_images"] == 20
    config = job.config
    embedded = folder_federation.simulation(job)
    here = RunFolder(tmp_path / "here")
    list(embedded.rounds(embedded.start(here, overwrite=False), here))
    np.testing.assert_array_equal(
        folder.load_state(config=job.config).parameters, here.load_state(config=config).parameters
    )
    # The personal layers are at the sites, in files of their own, and not with the server.
    last = config.federation.rounds
    for name in ("site-01", "site-05"):
        remembered = embedded.backend._memory(here, name).of(last)
        memory = folder_federation.site(name).memory(job.backend.plan.hash)
        kept = embedded.backend.strategies.memory(memory).of(last)
        assert np.array_equal(kept.personal, remembered.personal)
        secret = kept.personal.tobytes()
        for path in (*folder.path.rglob("*"), *folder_federation.server.path.rglob("*")):
            assert not (path.is_file() and secret in path.read_bytes())


def test_shared_images_from_a_path_are_refused_before_anything_is_sent(folder_federation) -> None:
    with pytest.raises(ConfigError, match=r"sharing\.source must be public"):
        folder_federation.job("sharing.source=generator", "sharing.path=/srv/run")
