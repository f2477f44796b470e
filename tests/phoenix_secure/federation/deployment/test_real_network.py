"""Server and five sites as processes over TLS: a real secure run, and attacks on the way."""

from __future__ import annotations

import dataclasses
import io
import logging
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.deployment.party_keys import new_node_key, node_line
from phoenix_secure.federation.deployment.probe import probe_server, probe_site
from phoenix_secure.federation.engines.bundle import make_bundle
from phoenix_secure.federation.engines.exchange import Failure, FailureCode, Reply
from phoenix_secure.federation.engines.flower_address import node_key_bytes
from phoenix_secure.federation.engines.flower_api import (
    acquire_task,
    claiming_client,
    control_client,
    list_nodes,
    register_node,
)
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.round.report import RoundReport, RunEvent, StageReport
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.server.skip_round import skip_round

pytestmark = pytest.mark.slow
log = logging.getLogger(__name__)


@pytest.fixture
def federation(network):
    return network


def train(job: Run, path: Path, *, observe=lambda event: None) -> np.ndarray:
    folder = RunFolder(path)
    state = job.start(folder, overwrite=True)
    for event in job.events(state, folder):
        observe(event)
        if isinstance(event, RoundReport):
            assert event.secure_aggregation == "on"
    return folder.load_state(config=job.config).parameters


def last_words(federation, site: str) -> str:
    """Why the site refused what it was asked last, from its own audit log."""
    line = federation.site(site).audit().lines()[-1]
    assert line["event"] == "refused"
    return line["why"]


class Recorder:
    """An engine that keeps every request."""

    def __init__(self, engine) -> None:
        self.engine = engine
        self.sent: list[tuple[str, dict[str, bytes], dict]] = []

    @property
    def sites(self):
        return self.engine.sites

    def exchange(self, stage, requests, *, on_reply=None, **how):
        answers = self.engine.exchange(stage, requests, **how)
        self.sent.append((stage, dict(requests), dict(answers)))
        for site, answer in answers.items():
            if on_reply is not None and isinstance(answer, Reply):
                answers[site] = on_reply(site, answer) or answer
        return answers

    def close(self) -> None:
        self.engine.close()


def test_plan_nobody_approved_is_refused_and_recorded(federation, tmp_path) -> None:
    job = federation.job("seed=1", approved=False)
    with pytest.raises(TrainingError, match=r"0 of 5 sites.*site-01: refused.*site approve"):
        train(job, tmp_path / "run")
    for site in federation.sites:
        assert last_words(federation, site) == "no approval"
        assert (federation.site(site).plans / f"{job.backend.plan.hash}.json").exists()


def test_secure_run_gives_the_weights_of_a_run_in_one_process(federation, tmp_path) -> None:
    job = federation.job("seed=2")
    over_network = train(job, tmp_path / "network")
    config = job.config
    embedded = federation.simulation(job, cache_dir=tmp_path / "cache")
    folder = RunFolder(tmp_path / "here")
    for _ in embedded.rounds(embedded.start(folder, overwrite=False), folder):
        pass
    here = folder.load_state(config=config).parameters
    np.testing.assert_array_equal(over_network, here)


def test_replayed_requests_compute_nothing_twice_and_old_ones_are_refused(
    federation, tmp_path
) -> None:
    recorders: list[Recorder] = []

    def make_engine(session: str) -> Recorder:
        recorders.append(Recorder(federation.engine(session)))
        return recorders[-1]

    job = federation.job("seed=3", make_engine=make_engine)
    train(job, tmp_path / "run")
    sent = recorders[0].sent
    engine = federation.engine(job.backend.plan.hash)
    try:
        stage, requests, first = sent[1]
        assert stage == "announce"
        again = engine.exchange(stage, requests, deadline_s=60)
        assert set(again.values()) == {Failure(code=FailureCode.REFUSED)}
        stage, requests, first = next(each for each in reversed(sent) if each[0] == "unmask")
        assert engine.exchange(stage, requests, deadline_s=60) == first
        assert all(isinstance(answer, Reply) for answer in first.values())
        assert federation.site("site-01").audit().lines()[-1]["event"] == "answered again"
        old = next(each for each in sent if each[0] == "unmask")
        refused = engine.exchange("unmask", old[1], deadline_s=60)
        assert set(refused.values()) == {Failure(code=FailureCode.REFUSED)}
    finally:
        engine.close()


def test_update_in_the_clear_is_refused_under_a_secure_plan(federation) -> None:
    job = federation.job("seed=4")
    body = TrainRequest(round_number=1, parameters=job.backend.model.initial_parameters).to_bytes()
    engine = federation.engine(job.backend.plan.hash)
    try:
        answers = engine.exchange("train", dict.fromkeys(federation.sites, body), deadline_s=60)
    finally:
        engine.close()
    assert set(answers.values()) == {Failure(code=FailureCode.REFUSED)}


def test_weaker_plan_is_refused_by_policy_although_approved(federation, tmp_path) -> None:
    job = federation.job("seed=5", "secure_aggregation.mode=off", "federation.min_sites=5")
    with pytest.raises(TrainingError, match="0 of 5 sites"):
        train(job, tmp_path / "run")
    assert last_words(federation, "site-03") == "policy: secure_aggregation.mode is off"


def test_server_that_ships_another_bundle_is_refused_and_its_code_never_runs(
    federation, tmp_path
) -> None:
    mark = tmp_path / "ran"
    bundle = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(make_bundle())) as ours, zipfile.ZipFile(bundle, "w") as evil:
        evil.writestr("pyproject.toml", ours.read("pyproject.toml"))
        evil.writestr("refusal.py", f"open({str(mark)!r}, 'w')\nclient = server = None\n")
    job = federation.job(
        "seed=6",
        make_engine=lambda session: federation.engine(session, bundle=bundle.getvalue()),
    )
    with pytest.raises(TrainingError, match="0 of 5 sites"):
        train(job, tmp_path / "run")
    assert "is not the one in the plan" in last_words(federation, "site-02")
    assert not mark.exists()


def claim(where) -> None:
    client = claiming_client(where)
    try:
        acquire_task(client, task_type=TaskType.SERVER_APP)
    finally:
        client.close()


def test_outsider_with_the_ca_certificate_reaches_nothing(federation) -> None:
    server = federation.server
    inside = server.superlink(server.settings())
    outside = dataclasses.replace(inside, address=server.settings().address, secret=None)
    key = node_key_bytes(node_line(new_node_key().public_key()))
    with control_client(outside) as client:
        for ask in (lambda: list_nodes(client), lambda: register_node(client, key=key, name="x")):
            with pytest.raises(httpx.HTTPStatusError, match="403"):
                ask()
    for secret in (None, inside.secret):
        with pytest.raises(httpx.HTTPStatusError, match="403"):
            claim(dataclasses.replace(outside, secret=secret))
    # Even on the server's own machine, a process without the secret takes over no run.
    for secret in (None, bytes(32)):
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            claim(dataclasses.replace(inside, secret=secret))


@pytest.mark.parametrize("door", ["proxy", "superlink"])
def test_node_with_a_key_nobody_registered_is_refused(federation, door) -> None:
    server = federation.server
    settings = server.settings()
    address = settings.address if door == "proxy" else server.superlink(settings).address
    private = new_node_key()
    public = private.public_key()
    keys = NodeAuthHttpInterceptor(private, public)
    certificates = server.files.ca_certificate.read_bytes()
    with (
        FleetHttpClient.from_server_address(
            address,
            False,
            certificates,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperNode"), keys],
        ) as client,
        pytest.raises(httpx.HTTPStatusError, match=r"4(01|03|12)"),
    ):
        client.ActivateNode(
            ActivateNodeRequest(public_key=keys._public_key_bytes, heartbeat_interval=30)
        )


def test_probes_find_the_federation_in_order_and_name_what_is_not(federation) -> None:
    findings = probe_server(federation.server)
    assert {finding.level for finding in findings} <= {"ok", "note"}, findings
    site = federation.site("site-01")
    assert {finding.level for finding in probe_site(site)} <= {"ok", "note"}
    site.identity_key.chmod(0o644)
    try:
        bad = [finding for finding in probe_site(site) if finding.level == "bad"]
    finally:
        site.identity_key.chmod(0o600)
    assert any("chmod 600" in finding.message for finding in bad)


def test_killed_site_and_killed_superlink_cost_time_and_nothing_else(
    federation, tmp_path, caplog
) -> None:
    """The SuperLink dies in round 1, a site before it signs in round 2: every sum is of five."""
    caplog.set_level("INFO")
    killed: list[str] = []

    def fault(report: RunEvent) -> None:
        log.info("%s", report)  # shown when the test fails
        if not isinstance(report, StageReport):
            return
        if (report.training_round, report.stage) == (1, "share") and not killed:
            killed.append("superlink")
            federation.kill_superlink()
        if (report.training_round, report.stage) == (2, "mask") and "site-05" not in killed:
            killed.append("site-05")
            federation.kill("site-05")
            federation.start("site-05")

    # Time enough for the site to be back, should its signature have to be asked for again.
    patient = ["secure_aggregation.max_attempts=8", "secure_aggregation.retry_pause_s=10"]
    job = federation.job("seed=7", *patient)
    faulty = train(job, tmp_path / "faulty", observe=fault)
    assert killed == ["superlink", "site-05"]
    federation.wait_online(federation.sites)
    plain = train(federation.job("seed=7", "output.num_samples=3"), tmp_path / "plain")
    np.testing.assert_array_equal(faulty, plain)


class ServerKilled(BaseException):
    """No handler may catch it."""


def test_site_gone_for_good_after_signing_costs_one_round(federation, tmp_path) -> None:
    """All five signed, then server and site-05 die; the site never comes back."""
    folder = RunFolder(tmp_path / "run")

    def fault(report: RunEvent) -> None:
        if not isinstance(report, StageReport):
            return
        if (report.training_round, report.stage) == (1, "check"):
            federation.kill("site-05")
            raise ServerKilled

    def go_on(observe=lambda event: None) -> list:
        job = federation.job("seed=8")
        state = job.resume(folder) if folder.path.exists() else job.start(folder, overwrite=False)
        reports = []
        for event in job.events(state, folder):
            observe(event)
            if isinstance(event, RoundReport):
                reports.append(event)
        return reports

    try:
        with pytest.raises(ServerKilled):
            go_on(observe=fault)
        with pytest.raises(TrainingError, match=r"site-05.*resume with --skip-round"):
            go_on()
        config = folder.load_config()
        assert skip_round(folder, config=config) == 1
        (second,) = go_on()
    finally:
        federation.start("site-05")
        federation.wait_online(federation.sites)
    assert second.round_number == 2
    assert second.sites == federation.sites[:4]
    job = federation.job("seed=8")
    assert job.finish(folder).skipped_rounds == (1,)
    # The sites would not sign the old round over four, and wrote down why.
    refused = [
        line["why"]
        for line in federation.site("site-01").audit().lines()
        if (line.get("plan"), line.get("stage"), line["event"])
        == (job.backend.plan.hash, "check", "refused")
    ]
    assert refused
    assert all("already signed this round" in why for why in refused)
