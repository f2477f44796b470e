"""A federated run over folders: real sites behind their gates, as threads of the test."""

from __future__ import annotations

import numpy as np
import pytest

from phoenix_secure.data.bundled import load_digits
from phoenix_secure.errors import CheckpointError, ConfigError, TrainingError
from phoenix_secure.federation.deployment.initialise import numbered_sites
from phoenix_secure.federation.deployment.site_process import SiteProcess
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.run import Run

SITES = tuple(numbered_sites(5))


@pytest.fixture
def federation(folder_federation):
    return folder_federation


def train(job: Run, folder: RunFolder) -> np.ndarray:
    state = job.start(folder, overwrite=True)
    for _ in job.rounds(state, folder):
        pass
    return folder.load_state(config=job.config).parameters


def test_secure_run_over_folders_gives_the_weights_of_a_run_in_one_process(
    federation, tmp_path
) -> None:
    federation.start()
    job, folder = federation.job(), RunFolder(tmp_path / "run")
    over_folders = train(job, folder)
    summary = job.finish(folder)
    assert summary.deployment.plan == job.backend.plan.hash
    assert (folder.model / "model_index.json").exists()
    embedded = federation.simulation(job)
    here = RunFolder(tmp_path / "here")
    for _ in embedded.rounds(embedded.start(here, overwrite=False), here):
        pass
    np.testing.assert_array_equal(over_folders, here.load_state(config=embedded.config).parameters)
    # The server's folders hold no update and no key of a site.
    identities = [federation.site(name).identity_key.read_bytes() for name in SITES]
    for path in (*folder.path.rglob("*"), *federation.server.path.rglob("*")):
        if path.is_file():
            assert not any(key in path.read_bytes() for key in identities)
    # The same plan again: no site answers a round twice.
    with pytest.raises(TrainingError, match="refused"):
        train(job, RunFolder(tmp_path / "again"))
    # A site that lost what it promised does not start, whatever it was.
    federation.close()
    place = federation.site(SITES[0])
    for path in (place.path / "rounds" / f"{job.backend.plan.hash}.jsonl", place.training_key):
        saved = path.rename(tmp_path / path.name)
        with pytest.raises(CheckpointError, match=f"{path.name} is missing"):
            SiteProcess(place, say=lambda text: None)
        saved.rename(path)
    SiteProcess(place, say=lambda text: None)


def test_plan_of_too_few_approvals_stops_before_any_training(federation, tmp_path) -> None:
    federation.start()
    job = federation.job()
    for name in SITES[:2]:
        (federation.site(name).approvals / f"{job.backend.plan.hash}.json").unlink()
    with pytest.raises(TrainingError, match="3 of 5 sites take part and 4 are needed"):
        train(job, RunFolder(tmp_path / "run"))
    stages = [line.get("stage") for line in federation.site("site-05").audit().lines()]
    assert set(stages) <= {None, "plan"}


@pytest.mark.long
def test_site_trains_on_its_own_images(federation, tmp_path) -> None:
    images = load_digits()
    np.savez(tmp_path / "own.npz", images=images.images[:60, 0])
    for name in SITES:
        federation.change(
            name,
            data={"source": "own", "name": "npz", "path": str(tmp_path / "own.npz")},
        )
    federation.start()
    job = federation.job("data.held_out=0.1", "data.reference=0.1", "federation.rounds=1")
    folder = RunFolder(tmp_path / "run")
    train(job, folder)
    (line,) = folder.read_metrics()
    assert line["num_images"] == 5 * 48  # what is held out stays held out


def test_plan_cannot_name_a_folder_of_the_site(federation, tmp_path) -> None:
    federation.start()
    job = federation.job("data.name=image-folder", "data.path=/etc")
    with pytest.raises(TrainingError, match=r"0 of 5 sites.*error"):
        train(job, RunFolder(tmp_path / "run"))
    assert federation.site("site-01").audit().lines()[-1]["kind"] == "ConfigError"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["evaluation.num_images=100"], "evaluation.num_images"),
        (["audit.profile=smoke"], "audit.profile"),
        (["secure_aggregation.max_images=null"], "secure_aggregation.max_images"),
        (["partition.num_sites=6"], "partition.num_sites"),
    ],
)
def test_settings_of_one_process_are_refused_before_anything_starts(
    federation, tmp_path, overrides, named
) -> None:
    with pytest.raises(ConfigError, match=named):
        federation.job(*overrides)


def test_site_with_an_open_key_does_not_start(federation) -> None:
    place = federation.site("site-01")
    place.task_secret.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        SiteProcess(place, say=lambda text: None)
