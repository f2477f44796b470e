"""A site that deals badly is named to its peers: in their logs, the evidence and the report."""

from __future__ import annotations

import pytest

from phoenix_secure.evidence import Event, read_ledger
from phoenix_secure.federation.deployment import site_installation
from phoenix_secure.federation.run.evidence import ledger_file
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.site.build import build_site
from protocol.messages import Envelope, seal


def badly_dealing(name, own, *, place, **how):
    """``build_site``, for a site whose responses lie on no polynomial."""
    handle = build_site(name, own, place=place, **how)

    def answer(stage: str, body: bytes) -> bytes:
        data = handle(stage, body)
        if stage != "share":
            return data
        honest = Envelope.parse(data, peer=place.identity.id, max_size=len(data))
        changed = bytearray(honest.body)
        changed[-20] ^= 1  # inside the last item's response; its sealed shares are empty
        return seal(
            place.identity, label=honest.label, context=bytes(honest.context), body=bytes(changed)
        )

    return answer


@pytest.mark.long
def test_culprit_reaches_logs_evidence_and_the_later_rounds(
    folder_federation, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    def build(name, own, *, place, **how):
        lies = place.identity.id == "site-05"
        return (badly_dealing if lies else build_site)(name, own, place=place, **how)

    monkeypatch.setattr(site_installation, "build_site", build)
    folder_federation.start()
    job = folder_federation.job("training.local_steps=1")
    folder = RunFolder(tmp_path / "run")
    reports = list(job.rounds(job.start(folder, overwrite=False), folder))
    assert [report.failures for report in reports] == [
        {"site-05": "excluded: unusable shares dealt"}
    ] * 2
    (entry,) = read_ledger(ledger_file(folder.path)).of(Event.EXCLUDED)
    assert entry.facts == {"round": 1, **reports[0].secure.excluded[0]}
    for name in folder_federation.sites:
        lines = folder_federation.site(name).audit().lines()
        (line,) = (line for line in lines if line["event"] == "excluded")
        assert line["plan"] == job.backend.plan.hash
        assert line["proof"] == entry.facts["proof"]
        assert line["why"].startswith("site-05: unusable shares dealt (round 1; ")
