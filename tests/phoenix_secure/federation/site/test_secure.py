"""A site in secure rounds: repeated requests, altered ones, downgrades, and what leaves it."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.messages import SecureTrainRequest, TrainRequest
from phoenix_secure.federation.server.attempt import STAGES
from phoenix_secure.federation.site.promises import SiteRecord
from protocol.messages import RoundAnnouncement, seal

SITE = "site-03"


def requests_of(parties, site: str = SITE) -> dict[str, bytes]:
    """What one site was sent in a whole round, by stage."""
    parties.sum()
    return {stage: body for stage, name, body in parties.engine.sent if name == site}


def handle(parties, stage: str, body: bytes, site: str = SITE) -> bytes:
    return parties.sites[site].handle(stage, body)


def refusal(parties, stage: str, body: bytes, site: str = SITE) -> FailureCode:
    with pytest.raises(SiteFailure) as caught:
        handle(parties, stage, body, site)
    return caught.value.code


def offer(parties, *, training_round: int = 1, protocol_round: int = 1, **changes) -> bytes:
    """An announcement that is correctly signed by the server, perhaps of other terms."""
    model = TrainRequest(round_number=training_round, parameters=parties.zeros()).to_bytes()
    spec = parties.terms.spec(
        roster=parties.roster,
        cohort=parties.names,
        protocol_round=protocol_round,
        model=model,
        previous=bytes(32),
    )
    spec = dataclasses.replace(spec, **changes)
    announcement = seal(
        parties.server,
        label=RoundAnnouncement.LABEL,
        context=spec.context,
        body=RoundAnnouncement(spec=spec).encode(),
    )
    return SecureTrainRequest(announcement=announcement, model=model).to_bytes()


@pytest.fixture
def parties(secure_parties, tmp_path: Path):
    return secure_parties.Parties(tmp_path)


def test_repeated_request_gets_the_same_bytes_in_every_stage(parties) -> None:
    sent = requests_of(parties)
    received = {s: reply for s, name, reply in parties.engine.received if name == SITE}
    assert list(sent) == list(STAGES)
    for stage in STAGES:
        assert handle(parties, stage, sent[stage]) == received[stage]
    assert parties.sites[SITE].trainings == [1]


@pytest.mark.parametrize("stage", STAGES)
def test_altered_request_for_an_answered_stage_is_refused(parties, stage: str) -> None:
    body = bytearray(requests_of(parties)[stage])
    for place in (5, len(body) // 2, len(body) - 1):
        altered = bytes(body[:place]) + bytes([body[place] ^ 1]) + bytes(body[place + 1 :])
        assert refusal(parties, stage, altered) in (FailureCode.REFUSED, FailureCode.MALFORMED)


@pytest.mark.parametrize("stage", STAGES)
def test_restarted_site_refuses_what_it_answered_before(parties, stage: str) -> None:
    """Lost memory is a dropout: the offer of a signed round, too, is answered never again."""
    sent = requests_of(parties)
    parties.sites[SITE].restart()
    assert refusal(parties, stage, sent[stage]) is FailureCode.REFUSED


def test_restarted_site_never_masks_a_second_input_for_an_attempt(parties) -> None:
    """The same offer after a crash before the signature: keys are new, the mask stage refuses."""
    parties.engine.fault = lambda stage, site, n: "before" if stage == "check" else None
    with pytest.raises(Exception, match="no secure sum"):
        parties.sum(max_attempts=1)
    sent = {stage: body for stage, name, body in parties.engine.sent if name == SITE}
    parties.sites[SITE].restart()
    first = handle(parties, "announce", sent["announce"])
    old = next(r for s, name, r in parties.engine.received if (s, name) == ("announce", SITE))
    assert first != old
    # The directory holds the old keys: this site's entry was "changed", and it leaves.
    assert refusal(parties, "share", sent["share"]) is FailureCode.REFUSED


def test_old_attempt_is_refused_when_a_newer_one_was_seen(parties) -> None:
    newer = offer(parties, attempt=1)
    older = offer(parties)
    handle(parties, "announce", newer)
    assert refusal(parties, "announce", older) is FailureCode.REFUSED
    assert handle(parties, "announce", newer)


@pytest.mark.parametrize(
    "changes",
    [
        {"word_bits": 32},
        {"scale": 1.0},
        {"clip": 1e-3},
        {"extra_bounds": ()},
        {"cohort": ("site-01", "site-02", "site-03", "site-04")},
        {"cohort": ("site-01", "site-02", "site-04", "site-05", "site-06")},
        {"degree": 4, "threshold": 3},
        {"noise_variance": 1.0},
        {"policy_hash": b"\1" * 32},
        {"privacy_hash": b"\1" * 32},
        {"federation_id": "another"},
    ],
)
def test_downgraded_terms_are_refused_before_any_training(
    parties, changes: dict, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert refusal(parties, "announce", offer(parties, **changes)) is FailureCode.REFUSED
    assert parties.sites[SITE].trainings == []
    assert SITE in caplog.text


@pytest.mark.parametrize("training_round", [0, 1001])
def test_training_round_outside_the_run_is_refused(parties, training_round: int) -> None:
    body = offer(parties, training_round=training_round)
    assert refusal(parties, "announce", body) is FailureCode.REFUSED


def test_clear_training_is_refused_by_a_site_with_secure_aggregation(parties) -> None:
    model = TrainRequest(round_number=1, parameters=parties.zeros()).to_bytes()
    assert refusal(parties, "train", model) is FailureCode.REFUSED
    assert parties.sites[SITE].trainings == []


@pytest.mark.parametrize("body", [b"", b"\0\0\0\0", b"\0\0\0\5hello", b"\xff" * 200])
def test_foreign_bytes_end_in_a_code(parties, body: bytes) -> None:
    for stage in STAGES:
        assert refusal(parties, stage, body) in (FailureCode.MALFORMED, FailureCode.REFUSED)


def test_other_model_than_announced_is_refused(parties) -> None:
    request = SecureTrainRequest.from_bytes(offer(parties))
    other = TrainRequest(round_number=1, parameters=parties.zeros() + 1).to_bytes()
    body = SecureTrainRequest(announcement=request.announcement, model=other).to_bytes()
    assert refusal(parties, "announce", body) is FailureCode.REFUSED
    assert parties.sites[SITE].trainings == []


def test_nothing_about_one_site_reaches_the_server_before_the_sum(
    secure_parties, tmp_path: Path
) -> None:
    """Two worlds with other updates, image counts and losses, and the same sum.

    All that differs between what the server receives is uniform: masked words, keys, shares,
    signatures, commitments. Nothing has a size or a place that depends on an input, and a word
    of a masked vector is as often above the middle in one world as in the other.
    """
    halves, lengths = [], []
    for shift in (0.0, 0.4):
        parties = secure_parties.Parties(tmp_path / str(shift), num_parameters=6000)
        train = parties.sites["site-01"].update
        other = parties.sites["site-02"].update
        first, second = parties.sites["site-01"], parties.sites["site-02"]
        move = np.full(6000, shift, np.float32)
        first.update = lambda r, f=train, m=move: _with(f(r), delta=f(r).delta + m, num_images=20)
        second.update = lambda r, f=other, m=move: _with(f(r), delta=f(r).delta - m, num_images=20)
        found = parties.sum()
        masked = next(r for s, n, r in parties.engine.received if (s, n) == ("mask", "site-01"))
        words = np.frombuffer(masked[-3 * 6000 :], np.uint8).reshape(-1, 3)
        halves.append((words[:, 2] >= 128).mean())
        lengths.append([(s, n, len(r)) for s, n, r in parties.engine.received])
        assert found.num_images == 20 + 20 + 30 + 40 + 50
    assert lengths[0] == lengths[1]
    # Six standard deviations of a fair coin over 6000 words.
    assert all(abs(half - 0.5) < 6 * 0.5 / 6000**0.5 for half in halves)


def _with(update, **changes):
    return dataclasses.replace(update, **changes)


def test_secrets_stay_out_of_logs_and_reprs(parties, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        sent = requests_of(parties)
        refusal(parties, "check", sent["check"] + b"x")
    seeds = [identity.export_seed() for identity in parties.identities.values()]
    text = caplog.text + repr(parties.sites[SITE].secure) + repr(parties.sites[SITE].secure._record)
    assert not any(seed.hex() in text or repr(seed) in text for seed in seeds)


def test_record_file_holds_no_secret_and_is_the_owners_alone(parties) -> None:
    parties.sum()
    path = parties.path / SITE / "rounds.jsonl"
    assert path.stat().st_mode & 0o077 == 0
    kinds = [line.split('"kind":"')[1].split('"')[0] for line in path.read_text().splitlines()]
    assert kinds == ["begun", "sent", "signed", "result"]
    assert SiteRecord(path).last_round == 1
