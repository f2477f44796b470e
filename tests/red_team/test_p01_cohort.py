"""Colluders gathered in one cohort: two of twenty sites and the server against ten sites a round.

The attack of the case: with c counted on the cohort (1 of 10, t = 6) two quorums need share one
site only. The server then shows four honest sites one survivor set and the other four another one,
the two colluders sign both, and every share of every secret comes out.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import defaultdict
from pathlib import Path

import pytest

from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.messages import SecureTrainRequest, TrainRequest
from protocol.commitments import ShareKind
from protocol.keys import PublicKeys, key_transcript, share_transcript
from protocol.messages import (
    AdvertiseKeys,
    Envelope,
    KeyDirectory,
    RoundAnnouncement,
    ShareDelivery,
    ShareKeys,
    SignatureQuorum,
    SurvivorList,
    Unmask,
    consistency_bytes,
    seal,
)

SETTINGS = ("federation.participation=0.5", "secure_aggregation.max_images=256")


class Attacker:
    """The server's key and two sites' keys and memories; all else it has to ask for."""

    def __init__(self, parties, *, training_round: int = 1) -> None:
        self.parties = parties
        self.round = training_round
        drawn = parties.terms.draw.cohort(parties.names, training_round)
        self.cohort = drawn
        self.colluders = drawn[:2]
        honest = drawn[2:]
        self.groups = honest[:4], honest[4:]

    def say(self, body) -> bytes:
        return seal(
            self.parties.server, label=body.LABEL, context=self.spec.context, body=body.encode()
        )

    def ask(self, site: str, stage: str, body: bytes) -> bytes:
        return self.parties.sites[site].handle(stage, body)

    def offer(self, **changes) -> bytes:
        parties = self.parties
        model = TrainRequest(round_number=self.round, parameters=parties.zeros()).to_bytes()
        spec = parties.terms.spec(
            roster=parties.roster,
            cohort=self.cohort,
            protocol_round=1,
            model=model,
            previous=bytes(32),
        )
        self.spec = dataclasses.replace(spec, **changes)
        return SecureTrainRequest(
            announcement=self.say(RoundAnnouncement(spec=self.spec)), model=model
        ).to_bytes()

    def until_masked(self, **changes) -> None:
        """R0 to R2 by the rules, under a specification with ``changes``."""
        offer = self.offer(**changes)
        advertised = {site: self.ask(site, "announce", offer) for site in self.cohort}
        keys = []
        for site in self.cohort:
            body = Envelope.parse(advertised[site], peer=site, max_size=1 << 20).body
            found = AdvertiseKeys.decode(body, peer=site)
            keys.append(PublicKeys(id=site, mask=found.mask_key, channel=found.channel_key))
        h1 = key_transcript(keys, context=self.spec.context)
        self.h2 = share_transcript(h1, ids=self.cohort)
        directory = self.say(KeyDirectory(advertisements=tuple(advertised.values())))
        dealt = {}
        for site in self.cohort:
            data = self.ask(site, "share", directory)
            body = Envelope.parse(data, peer=site, max_size=1 << 20).body
            dealt[site] = ShareKeys.decode(body, peer=site, max_shares=99)
        for site in self.cohort:
            shares = tuple(
                dealt[dealer].deliveries(dealer)[site] for dealer in self.cohort if dealer != site
            )
            self.ask(site, "mask", self.say(ShareDelivery(dealers=self.cohort, shares=shares)))

    def split(self) -> dict[tuple[str, ShareKind], set[str]]:
        """R3 and R4 with another survivor set for each group: whose shares of what came out."""
        held: dict[tuple[str, ShareKind], set[str]] = defaultdict(set)
        for colluder in self.colluders:
            for dealer in self.cohort:
                for kind in ShareKind:
                    held[dealer, kind].add(colluder)
        for group in self.groups:
            survivors = tuple(sorted({*group, *self.colluders}))
            signed = consistency_bytes(context=self.spec.context, h2=self.h2, survivors=survivors)
            signatures = {
                colluder: self.parties.identities[colluder].sign(signed(colluder))
                for colluder in self.colluders
            }
            message = self.say(SurvivorList(h2=self.h2, survivors=survivors))
            for site in group:
                data = self.ask(site, "check", message)
                signatures[site] = Envelope.parse(data, peer=site, max_size=1 << 20).signature
            quorum = self.say(SignatureQuorum(signatures=tuple(sorted(signatures.items()))))
            for site in group:
                body = Envelope.parse(
                    self.ask(site, "unmask", quorum), peer=site, max_size=1 << 20
                ).body
                for share in Unmask.decode(body, peer=site, max_shares=99).shares:
                    held[share.dealer, share.kind].add(site)
        return held


@pytest.fixture
def attacker(secure_parties, tmp_path: Path) -> Attacker:
    parties = secure_parties.Parties(tmp_path, *SETTINGS, num_sites=20)
    assert (parties.terms.cohort_size, parties.terms.num_colluders) == (10, 2)
    return Attacker(parties)


def num_opened(attacker: Attacker, **changes) -> int:
    """Honest sites of which both secrets came out: their updates are in the clear."""
    honest = [site for site in attacker.cohort if site not in attacker.colluders]
    held: dict[tuple[str, ShareKind], set[str]] = defaultdict(set)
    with contextlib.suppress(SiteFailure):
        attacker.until_masked(**changes)
        held = attacker.split()
    return sum(
        all(len(held[site, kind]) >= attacker.spec.threshold for kind in ShareKind)
        for site in honest
    )


def test_no_update_comes_out_when_c_is_counted_on_the_cohort(attacker: Attacker) -> None:
    """The specification of before: c = 1 of 10, t = 6."""
    assert num_opened(attacker, num_colluders=1, threshold=6, quorum=6) == 0


def test_no_update_comes_out_under_the_plans_terms(attacker: Attacker) -> None:
    assert attacker.parties.terms.threshold == 7
    assert num_opened(attacker) == 0


def test_the_server_does_not_choose_the_cohort(attacker: Attacker) -> None:
    parties = attacker.parties
    others = tuple(site for site in parties.names if site not in attacker.cohort)
    for cohort in (others, attacker.cohort[:-1] + others[:1], attacker.cohort[1:]):
        attacker.cohort = tuple(sorted(cohort))
        asked = attacker.cohort[-2]
        changes = {} if len(cohort) == 10 else {"threshold": 7, "quorum": 7}
        with pytest.raises(SiteFailure) as caught:
            attacker.ask(asked, "announce", attacker.offer(**changes))
        assert "not the one drawn" in (caught.value.why or "")


def test_sites_accept_the_cohort_that_they_draw_themselves(attacker: Attacker) -> None:
    parties = attacker.parties
    parties.names = attacker.cohort
    found = parties.sum()
    assert found.sites == attacker.cohort
    assert found.secure is not None
    assert (found.secure.terms.t, found.secure.terms.c) == (7, 2)
