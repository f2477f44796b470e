"""Two approved plans with one seed, and a site that is called away in the second.

The attack of the case needs no colluder. Until 0.1.0 batches, noise and rounding of a training
followed from the plan's seed, so that two plans that differ in a harmless setting got the same
integers from every site: the sum of the first minus the sum of the second, over all sites but one,
was that one's update, exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.cli.approving import _warn_of_similar
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.deployment.deployed_sites import DeployedSites
from phoenix_secure.federation.deployment.initialise import Deployment, initialise, numbered_sites
from phoenix_secure.federation.deployment.server_folder import ServerFolder
from phoenix_secure.federation.deployment.site_budget import SiteBudget
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.site_process import SiteProcess
from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply
from phoenix_secure.federation.engines.request import SiteRequest, answer
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.site.approval import sign_approval
from phoenix_secure.federation.site.site_input import SiteInput

SITES = numbered_sites(5)
AWAY = "site-03"
SETTINGS = [
    "data.name=digits",
    "data.image_size=8",
    "data.channels=1",
    "data.max_images=240",
    "partition.num_sites=5",
    "model.block_channels=[8,8]",
    "model.attention=[false,false]",
    "model.mid_attention=false",
    "model.layers_per_block=1",
    "model.norm_groups=4",
    "training.batch_size=8",
    "training.local_steps=1",
    # Adam's first step is of one length everywhere.
    "training.optimizer=sgd",
    "training.learning_rate=1",
    "training.warmup_steps=0",
    "federation.rounds=1",
    "secure_aggregation.max_images=64",
    "secure_aggregation.max_attempts=1",
    "secure_aggregation.retry_pause_s=0",
    "evaluation.num_images=0",
    "output.samples_every_rounds=0",
    "device=cpu",
]


class Gates:
    """Asks the sites' gates one after another, for one plan; those in ``away`` hear nothing."""

    def __init__(self, gates: Mapping[str, object], session: str, *, away: tuple[str, ...]) -> None:
        self._gates = gates
        self._session = session
        self._away = away
        self.sites = tuple(sorted(gates))

    def exchange(self, stage: str, requests: Mapping[str, bytes], *, on_reply=None, **_) -> dict:
        answers: dict[str, Reply | Failure] = {}
        for site, body in requests.items():
            request = SiteRequest(site=site, session=self._session, stage=stage, body=body)
            found = Failure(code=FailureCode.NO_REPLY)
            if site not in self._away:
                found = answer(self._gates[site], request)
            if on_reply is not None and isinstance(found, Reply):
                found = on_reply(site, found) or Reply(body=b"")
            answers[site] = found
        return answers

    def close(self) -> None:
        pass


class Federation:
    """Five installed sites with shares of the digits, whose owners sign what they are offered."""

    def __init__(self, root: Path) -> None:
        self.root = root
        initialise(root / "f", Deployment(federation="trial", sites=SITES, rehearsal=True))
        processes = {name: SiteProcess(self.site(name), say=print) for name in SITES}
        self.gates = {name: process._gate for name, process in processes.items()}

    def site(self, name: str) -> SiteFolder:
        return SiteFolder(self.root / "f" / "sites" / name)

    def job(self, name: str, *overrides: str, away: tuple[str, ...] = ()) -> Run:
        config = load_config(None, [*SETTINGS, *overrides])
        server = ServerFolder(self.root / "f" / "server")
        make = lambda session: Gates(self.gates, session, away=away)  # noqa: E731
        job = Run(DeployedSites(config, server=server, make_engine=make))
        for site in SITES:
            place = self.site(site)
            owner = place.approver_identity(place.approver_key)
            sign_approval(place.approvals, plan=job.backend.plan.hash, site=site, owner=owner)
        return job

    def run(self, name: str, *overrides: str, away: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
        """One round under one plan; what each site entered in it."""
        entered: dict[str, np.ndarray] = {}
        make = SiteInput.make

        def kept(self, request, *, train):
            found = make(self, request, train=train)
            entered[self.site] = found.words.astype(np.int64)
            return found

        job, folder = self.job(name, *overrides, away=away), RunFolder(self.root / name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SiteInput, "make", kept)
            list(job.rounds(job.start(folder, overwrite=False), folder))
        return entered


@pytest.fixture(scope="module")
def federation(tmp_path_factory) -> Federation:
    return Federation(tmp_path_factory.mktemp("p02"))


@pytest.fixture(scope="module")
def first(federation: Federation) -> dict[str, np.ndarray]:
    return federation.run("a")


@pytest.mark.long
def test_two_plans_with_one_seed_get_different_integers(federation: Federation, first) -> None:
    second = federation.run("b", "output.keep_checkpoints=4")
    for site in SITES:
        assert (first[site] != second[site]).mean() > 0.9
    others = sum(second[site] for site in SITES if site != AWAY)
    assert (sum(first.values()) - others != first[AWAY]).mean() > 0.9


@pytest.mark.long
def test_a_model_is_not_signed_again_over_other_sites(federation: Federation, first) -> None:
    """Few steps differ little between two trainings: the second sum is not given at all."""
    with pytest.raises(TrainingError, match="stage check; site-01: refused"):
        federation.run("c", "output.keep_checkpoints=5", away=(AWAY,))
    # Another seed is another model: what its sum says was never asked before.
    entered = federation.run("d", "output.keep_checkpoints=5", "seed=9", away=(AWAY,))
    assert set(entered) == set(SITES) - {AWAY}


def test_the_owner_is_shown_what_the_second_plan_changes(
    federation: Federation, first, capsys: pytest.CaptureFixture[str]
) -> None:
    place = federation.site("site-01")
    settings = place.settings()
    budget = SiteBudget(place, policy=settings.policy, approver=place.approver(settings))
    plan = federation.job("e", "output.keep_checkpoints=6", "training.warmup_steps=7").backend.plan
    warnings = [each.warning for each in budget.similar(plan)]
    changed = r"output\.keep_checkpoints \d+ -> 6, training\.warmup_steps 0 -> 7\."
    assert any(re.search(changed, each) for each in warnings), warnings
    _warn_of_similar(budget, plan)
    assert capsys.readouterr().out.count("warning: nearly plan ") == len(warnings)
    other = federation.job("e", "output.keep_checkpoints=6", "seed=10").backend.plan
    assert not budget.similar(other)
