"""Keys of every party's own making, between processes over TLS: certificates that the owner signed
for keys it never saw open the door, and nothing else does."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest
import yaml

from ceremony import Ceremony
from phoenix_secure.config_file import load_config
from phoenix_secure.federation.deployment.deployed_sites import DeployedSites
from phoenix_secure.federation.deployment.deployment import Deployment
from phoenix_secure.federation.deployment.probe import probe_server, probe_site
from phoenix_secure.federation.round.report import RoundReport
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.run import Run
from rehearsal import Rehearsal

SETTINGS = [
    *("data.name=digits", "data.image_size=8", "data.channels=1", "data.max_images=400"),
    *("partition.num_sites=5", "model.block_channels=[8]", "model.attention=[false]"),
    *("training.batch_size=8", "training.local_steps=2", "federation.rounds=2"),
    *("federation.deadline_s=120", "secure_aggregation.max_images=128"),
    *("secure_aggregation.grace_s=10", "secure_aggregation.training_grace_s=10"),
    *("sampling.num_steps=2", "evaluation.num_images=0", "output.samples_every_rounds=0"),
    "device=cpu",
]


class Apart(Ceremony):
    """Folders where a rehearsal has them."""

    def place(self, party: str) -> Path:
        return self.root / party if party == "server" else self.root / "sites" / party


class OwnKeys(Rehearsal):
    """A rehearsal whose parties made their own keys."""

    def make(self, deployment: Deployment) -> None:
        ceremony = Apart(
            self.root,
            federation=deployment.federation,
            host=deployment.host,
            port=deployment.port,
        )
        ceremony.make(deployment.sites)
        change(self.root / "server" / "server.yaml", superlink_port=deployment.superlink_port)
        for number, site in enumerate(deployment.sites):
            change(
                ceremony.place(site) / "site.yaml",
                supernode_port=deployment.first_supernode_port + number,
                data={"source": "share-of-plan"},
                device="cpu",
            )


def change(path: Path, **settings: object) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | settings))


@pytest.mark.slow
def test_two_secure_rounds_over_tls_and_a_closed_door(tmp_path: Path) -> None:
    with OwnKeys(tmp_path / "federation") as parties:
        found = probe_server(parties.server) + probe_site(parties.site("site-03"))
        assert [finding for finding in found if finding.level == "bad"] == []
        job = Run(DeployedSites(load_config(None, SETTINGS), server=parties.server))
        parties.approve(job.backend.plan)
        folder = RunFolder(tmp_path / "run")
        state = job.start(folder, overwrite=True)
        reports = [event for event in job.events(state, folder) if isinstance(event, RoundReport)]
        assert [report.secure_aggregation for report in reports] == ["on", "on"]
        # A certificate of another federation's authority.
        stranger = Apart(tmp_path / "other", host="127.0.0.1")
        stranger.make(parties.sites)
        place, own = stranger.place("site-01"), parties.site("site-01")
        for certificate, key, opens in (
            (own.door_certificate, own.door_key, True),
            (place / "door.crt", place / "door.key", False),
        ):
            tls = ssl.create_default_context(cafile=str(own.ca_certificate))
            tls.load_cert_chain(certificate, key)
            settings = parties.server.settings()
            with httpx.Client(
                base_url=f"https://{settings.address}", verify=tls, trust_env=False
            ) as client:
                if opens:
                    assert client.post("/v1/control/start-run").status_code in (403, 404)
                else:
                    with pytest.raises(httpx.TransportError):
                        client.post("/v1/control/start-run")
