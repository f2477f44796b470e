"""A server that sends sites another model than the one that follows from the sums.

Until 0.1.0 a site trained on whatever the server sent, so that a crafted model could ask questions
about its images. The server here holds its real key, and up to C sites sign whatever it wants.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.confirmation import Certificate, ModelClaim
from phoenix_secure.federation.round.messages import TrainRequest
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.secagg.offers import (
    BroadcastSum,
    CatchUp,
    RoundOffer,
    state_to_bytes,
)
from phoenix_secure.federation.secagg.sum_step import KnownState, SummedRound
from phoenix_secure.federation.server.journal import SecureJournal
from phoenix_secure.federation.server.sums import KeptSums
from protocol.messages import Envelope, RoundAnnouncement, RoundResult, seal
from protocol.words import pack, unpack

SUM = "secure_aggregation.broadcast=sum"
ROUNDS = 2


def two_rounds(secure_parties, path: Path):
    """Five sites after two rounds; site-05 was away in the second."""
    made = secure_parties.Parties(path, SUM, "federation.server_optimizer=fedavgm")
    server = made.aggregator()
    made.next_round(server)
    made.engine.fault = lambda stage, site, exchange: "before" if site == "site-05" else None
    made.next_round(server)
    made.engine.fault = lambda stage, site, exchange: None
    return made


@pytest.fixture(scope="module")
def refusing(secure_parties, tmp_path_factory: pytest.TempPathFactory):
    """For attacks that every site refuses, so that nothing changes."""
    return two_rounds(secure_parties, tmp_path_factory.mktemp("refusing"))


@pytest.fixture
def parties(secure_parties, tmp_path: Path):
    return two_rounds(secure_parties, tmp_path)


def journal(parties) -> SecureJournal:
    return SecureJournal(parties.path / "server" / "rounds.jsonl")


def kept(parties, round_number: int = ROUNDS):
    sums = KeptSums(
        parties.path / "server" / "sums", keep=3, packed_size=parties.terms.masked_bytes
    )
    return sums.load(round_number)


def offer(parties, state: ServerState, *, base: int = ROUNDS, number: int = ROUNDS + 1, **more):
    """The offer of a round from ``state``, with all signatures that the server can make."""
    model = TrainRequest(
        round_number=number, parameters=state.parameters, clip_factor=state.clip_factor
    ).to_bytes()
    spec = parties.terms.spec(
        roster=parties.roster,
        cohort=parties.names,
        protocol_round=journal(parties).reserve(number),
        model=model,
        previous=journal(parties).previous,
    )
    body = RoundAnnouncement(spec=spec)
    announcement = seal(parties.server, label=body.LABEL, context=spec.context, body=body.encode())
    return RoundOffer(announcement=announcement, round_number=number, base=base, **more).to_bytes()


def is_refused(parties, site: str, body: bytes, code: FailureCode, *, why: str) -> None:
    """Nothing is trained, and the site's state is the one before."""
    asked = parties.sites[site]
    before, trained = asked.secure._model.newest.digest, list(asked.trainings)
    with pytest.raises(SiteFailure) as caught:
        asked.handle("announce", body)
    assert caught.value.code is code, caught.value.why
    assert why in caught.value.why
    assert asked.trainings == trained
    assert asked.secure._model.newest.digest == before


def one_bit(state: ServerState, place: int = 3) -> ServerState:
    parameters = state.parameters.copy()
    parameters.view(np.uint32)[place] ^= 1
    return replace(state, parameters=parameters)


def claim_of(parties, state: ServerState, **changes) -> ModelClaim:
    true = kept(parties).certificate.claim
    return replace(true, state=state.digest, **changes)


def signed(parties, claim: ModelClaim, *sites: str) -> Certificate:
    confirmations = [
        claim.confirmed_by(parties.identities[site], roster=parties.roster) for site in sites
    ]
    return Certificate(claim=claim, signatures=tuple((c.site, c.signature) for c in confirmations))


def test_the_true_model_is_trained_by_all_and_the_late_joiner_catches_up(parties) -> None:
    """The offers that the attacks below change."""
    for site in parties.names[:4]:
        assert parties.sites[site].handle("announce", offer(parties, parties.state))
    sums = CatchUp(certificate=kept(parties).certificate, sums=(kept(parties).summed,))
    body = offer(parties, parties.state, catch_up=sums)
    assert parties.sites["site-05"].handle("announce", body)
    assert parties.sites["site-05"].secure._model.newest.digest == parties.state.digest


def test_one_changed_bit_of_one_weight_is_refused_by_every_site(refusing) -> None:
    for site in refusing.names[:4]:
        body = offer(refusing, one_bit(refusing.state))
        is_refused(refusing, site, body, FailureCode.ANOTHER_MODEL, why="not the one that follows")


def test_changed_clip_norm_is_refused(refusing) -> None:
    state = replace(refusing.state, clip_factor=0.5)
    body = offer(refusing, state)
    is_refused(refusing, "site-01", body, FailureCode.ANOTHER_MODEL, why="not the one that follows")


def test_a_run_of_such_a_server_ends_without_a_sum(parties) -> None:
    parties.state = one_bit(parties.state)
    with pytest.raises(TrainingError, match="another-model"):
        parties.next_round()


def test_two_sites_with_two_models_each_refuse_what_is_not_their_own(parties) -> None:
    two = parties.state, one_bit(parties.state)
    assert parties.sites["site-01"].handle("announce", offer(parties, two[0]))
    body = offer(parties, two[1])
    is_refused(parties, "site-02", body, FailureCode.ANOTHER_MODEL, why="not the one that follows")


def test_an_older_model_is_refused_whatever_it_is_called(refusing) -> None:
    chain = refusing.chain()
    older = KnownState.of(refusing.rule.start().state)
    first = refusing.rule.step.next(older, kept(refusing, 1).summed).state
    assert (
        chain.base.digest
        == refusing.rule.step.next(KnownState.of(first), kept(refusing, 2).summed).digest
    )
    body = offer(refusing, first)
    is_refused(refusing, "site-01", body, FailureCode.ANOTHER_MODEL, why="not the one that follows")
    body = offer(refusing, first, base=1)
    is_refused(refusing, "site-01", body, FailureCode.ANOTHER_MODEL, why="after round 2")
    # Honest signatures from back then do not make it new.
    proof = CatchUp(certificate=kept(refusing, 1).certificate, state=state_to_bytes(first))
    body = offer(refusing, first, base=1, catch_up=proof)
    is_refused(refusing, "site-01", body, FailureCode.ANOTHER_MODEL, why="after round 2")


def test_the_newest_round_again_starts_where_it_started(parties) -> None:
    """Its result may have been lost; the model may not be another one for that."""
    first = parties.rule.step.next(parties.rule.start(), kept(parties, 1).summed).state
    body = offer(parties, one_bit(first), base=1, number=2)
    is_refused(parties, "site-01", body, FailureCode.ANOTHER_MODEL, why="not the one that follows")
    assert parties.sites["site-01"].handle("announce", offer(parties, first, base=1, number=2))


def made_up(parties) -> ServerState:
    return replace(parties.state, parameters=parties.state.parameters * np.float32(50))


def test_late_joiner_takes_no_model_that_the_colluders_alone_signed(refusing) -> None:
    state = made_up(refusing)
    certificate = signed(refusing, claim_of(refusing, state), "site-01")
    assert refusing.terms.num_colluders == 1
    late = CatchUp(certificate=certificate, state=state_to_bytes(state))
    body = offer(refusing, state, catch_up=late)
    is_refused(refusing, "site-05", body, FailureCode.BEHIND, why="2 are needed")


def test_late_joiner_counts_no_signature_twice(refusing) -> None:
    state = made_up(refusing)
    one = signed(refusing, claim_of(refusing, state), "site-01")
    late = CatchUp(
        certificate=replace(one, signatures=one.signatures * 2), state=state_to_bytes(state)
    )
    body = offer(refusing, state, catch_up=late)
    is_refused(refusing, "site-05", body, FailureCode.BEHIND, why="not of different sites")


def test_late_joiner_takes_no_signature_in_another_ones_name(refusing) -> None:
    state = made_up(refusing)
    (_, signature), *_ = signed(refusing, claim_of(refusing, state), "site-01").signatures
    both = (("site-01", signature), ("site-02", signature))
    late = CatchUp(
        certificate=Certificate(claim=claim_of(refusing, state), signatures=both),
        state=state_to_bytes(state),
    )
    body = offer(refusing, state, catch_up=late)
    is_refused(refusing, "site-05", body, FailureCode.BEHIND, why="of site-02 does not hold")


def test_late_joiner_takes_no_signatures_of_another_plan(refusing) -> None:
    """The same sites may honestly have signed it there."""
    state = made_up(refusing)
    certificate = signed(refusing, claim_of(refusing, state, plan=bytes(32)), *refusing.names[:4])
    late = CatchUp(certificate=certificate, state=state_to_bytes(state))
    body = offer(refusing, state, catch_up=late)
    is_refused(refusing, "site-05", body, FailureCode.BEHIND, why="another plan")


def test_late_joiner_takes_no_other_model_than_the_signed_one(refusing) -> None:
    state = made_up(refusing)
    late = CatchUp(certificate=kept(refusing).certificate, state=state_to_bytes(state))
    body = offer(refusing, state, catch_up=late)
    is_refused(refusing, "site-05", body, FailureCode.BEHIND, why="not the one that sites signed")


def test_late_joiner_takes_no_made_up_sum(refusing) -> None:
    true = kept(refusing)
    words = unpack(true.summed.packed, word_bits=24, num_words=len(true.summed.packed) // 3)
    words[0] += 1
    false = replace(true.summed, packed=pack(words & np.uint32(0xFFFFFF), word_bits=24))
    state = refusing.rule.step.next(
        refusing.rule.step.next(refusing.rule.start(), kept(refusing, 1).summed), false
    ).state
    late = CatchUp(certificate=true.certificate, sums=(false,))
    body = offer(refusing, state, catch_up=late)
    is_refused(refusing, "site-05", body, FailureCode.BEHIND, why="not the one that sites signed")


def test_late_joiner_without_proof_refuses(refusing) -> None:
    body = offer(refusing, made_up(refusing))
    is_refused(refusing, "site-05", body, FailureCode.BEHIND, why="nothing was sent to catch up")


def changed(summed: SummedRound) -> SummedRound:
    packed = bytearray(summed.packed)
    packed[0] ^= 1
    return replace(summed, packed=bytes(packed))


class Results:
    """Changes the bodies of the last stage on their way to one site."""

    def __init__(self, parties, victim: str, change) -> None:
        self.honest, self.victim, self.change = parties.sites[victim].handle, victim, change
        self.parties, self.failures = parties, []
        parties.sites[victim].handle = self.handle

    def handle(self, stage: str, body: bytes) -> bytes:
        if stage == "result":
            size = self.parties.terms.masked_bytes
            body = self.change(BroadcastSum.from_bytes(body, packed_size=size)).to_bytes()
        try:
            return self.honest(stage, body)
        except SiteFailure as failure:
            self.failures.append((failure.code, failure.why))
            raise


def resigned(parties, broadcast: BroadcastSum, summed: SummedRound) -> BroadcastSum:
    """``summed`` with a result that the server signed for it."""
    envelope = Envelope.parse(broadcast.result, peer="server", max_size=1 << 20)
    true = RoundResult.decode(envelope.body, peer="server", max_members=5)
    body = replace(true, sum_digest=summed.digest).encode()
    result = seal(parties.server, label=RoundResult.LABEL, context=envelope.context, body=body)
    return BroadcastSum(result=result, summed=summed)


def test_a_sum_that_is_not_the_signed_one_is_refused(parties) -> None:
    attack = Results(parties, "site-02", lambda b: replace(b, summed=changed(b.summed)))
    parties.next_round()
    assert attack.failures == [(FailureCode.ANOTHER_MODEL, "round 3: not the sum of its result")]


def test_two_sites_with_two_signed_sums_never_train_the_same_model(parties) -> None:
    attack = Results(parties, "site-02", lambda b: resigned(parties, b, changed(b.summed)))
    parties.next_round()
    assert attack.failures == []
    # Its signature is under the other sum; the dishonest server cannot use the site again.
    assert parties.stages[-1].failures == {"site-02": "invalid signature"}
    body = offer(parties, parties.state, base=3, number=4)
    is_refused(parties, "site-02", body, FailureCode.ANOTHER_MODEL, why="not the one that follows")
    assert parties.sites["site-01"].handle(
        "announce", offer(parties, parties.state, base=3, number=4)
    )


def test_no_second_sum_for_a_round_that_was_summed(parties) -> None:
    """The server 'lost' the result: the round is summed again, and must end as before."""
    third = parties.state
    parties.next_round()
    signed_before = parties.sites["site-02"].secure._model.newest.digest
    (parties.path / "server" / "sums" / "round-000003.bin").unlink()
    parties.state = third
    attack = Results(parties, "site-02", lambda b: resigned(parties, b, changed(b.summed)))
    parties.next_round()
    assert attack.failures == [(FailureCode.ANOTHER_MODEL, "round 3 had another sum before")]
    assert parties.sites["site-02"].secure._model.newest.digest == signed_before


def test_a_sum_beyond_every_honest_update_is_refused(parties) -> None:
    def far(broadcast: BroadcastSum) -> BroadcastSum:
        packed = bytearray(broadcast.summed.packed)
        packed[2] = 0x7F
        return resigned(parties, broadcast, replace(broadcast.summed, packed=bytes(packed)))

    attack = Results(parties, "site-02", far)
    parties.next_round()
    ((code, why),) = attack.failures
    assert code is FailureCode.ANOTHER_MODEL
    assert "clip_value" in why


def test_an_invented_sum_for_everybody_moves_the_model_by_one_clip_and_no_site_alone(
    secure_parties, tmp_path: Path
) -> None:
    """What remains: no site can compare the sum with what the others entered. All take the same
    step, which is as long as one that dishonest inputs within the bounds could have made."""
    parties = secure_parties.Parties(tmp_path, SUM, "secure_aggregation.clip_norm=1.58")
    before = parties.state.parameters

    def invented(broadcast: BroadcastSum) -> BroadcastSum:
        summed, terms = broadcast.summed, parties.terms
        words, extra = summed.words(terms)
        weight = extra[0] / terms.max_images
        length = 0.99 * weight * terms.clip_norm / np.sqrt(words.size)
        words = np.full_like(words, int(length * terms.scale))
        tail = unpack(summed.packed, word_bits=24, num_words=len(summed.packed) // 3)[words.size :]
        false = replace(summed, packed=pack(np.concatenate([words, tail]), word_bits=24))
        return resigned(parties, broadcast, false)

    attacks = [Results(parties, name, invented) for name in parties.names]
    # The honest program computes the true model, and goes no further without signatures under it.
    with pytest.raises(TrainingError, match="2 more sites must confirm"):
        parties.next_round()
    assert [attack.failures for attack in attacks] == [[]] * 5
    newest = {name: site.secure._model.newest for name, site in parties.sites.items()}
    assert len({known.digest for known in newest.values()}) == 1
    moved = newest["site-01"].state.parameters - before
    assert 1.5 < np.linalg.norm(moved) <= 1.58 * 1.001
