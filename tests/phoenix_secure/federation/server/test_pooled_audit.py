"""Pooled audits in memory: exact sums, nobody's own counts on the wire, and what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from audited_parties import AuditedParties
from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.stages import AUDIT_PREFIX
from phoenix_secure.federation.secagg.pooled_layout import PooledCounts
from phoenix_secure.federation.secagg.pooled_terms import pooled_terms, released_parameters
from phoenix_secure.federation.secagg.sum_step import SummedRound
from phoenix_secure.federation.server.attempt import STAGES
from secure_parties import ServerKilled

ANNOUNCE = AUDIT_PREFIX + "announce"


@pytest.fixture
def parties(tmp_path: Path) -> AuditedParties:
    made = AuditedParties(tmp_path)
    trained(made)
    return made


def trained(parties: AuditedParties) -> None:
    parties.next_round()
    for name in parties.names:
        parties.with_audit(name)
    parties.engine.sent.clear()
    parties.engine.received.clear()


def announcements(parties: AuditedParties) -> int:
    return sum(stage == ANNOUNCE for stage, _, _ in parties.engine.sent)


def test_sum_is_that_of_plain_integers_word_for_word(parties: AuditedParties) -> None:
    found = parties.audit()
    expected = parties.in_the_clear()
    np.testing.assert_array_equal(parties.layout.to_words(found.counts), expected)
    assert found.sites == parties.names
    assert found.classes == {0, 1, 2}
    assert all(examiner.asked == [(0, 1, 2)] for examiner in parties.examiners.values())


def test_sites_attack_the_released_weights_of_the_state_that_they_computed(
    parties: AuditedParties,
) -> None:
    parties.audit()
    released = released_parameters(parties.state, parties.config)
    assert parties.state.round_number == 1
    assert not np.array_equal(released, parties.state.parameters)  # the average is what leaves
    for examiner in parties.examiners.values():
        np.testing.assert_array_equal(examiner.seen[0], released)


def test_no_message_holds_a_sites_own_histogram_and_some_hold_the_pooled_one(
    parties: AuditedParties,
) -> None:
    found = parties.audit()
    bodies = [body for _, _, body in parties.engine.sent + parties.engine.received]

    def on_the_wire(histogram: np.ndarray) -> bool:
        return any(histogram.astype("<u4").tobytes() in body for body in bodies)

    for examiner in parties.examiners.values():
        own = examiner.own
        for histogram in (
            *(a.members for a in own.attacks),
            *(a.pseudo_others for a in own.attacks),
            own.blind.members,
            own.classes[0].members,
            own.moments.total,
        ):
            assert not on_the_wire(histogram)
    # The search finds what is there: sites hear the sum.
    assert on_the_wire(found.counts.attacks[0].members)
    assert on_the_wire(found.counts.moments.total)


@pytest.mark.long
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("stage", ["announce", "mask", "unmask"])
def test_site_that_vanishes_leaves_the_audit_of_the_others(
    parties: AuditedParties, stage: str, number: int
) -> None:
    seen = []

    def fault(now: str, site: str, exchange: int) -> str | None:
        seen.extend([now] if now == ANNOUNCE and site == "site-01" else [])
        place = STAGES.index(now.removeprefix(AUDIT_PREFIX)), STAGES.index(stage)
        is_gone = len(seen) > number or (len(seen) == number and place[0] >= place[1])
        return "before" if site == "site-02" and is_gone else None

    parties.engine.fault = fault
    found = parties.audit()
    # Whose masked input arrived is in the sum, whatever becomes of the site afterwards.
    is_in = (number, stage) == (2, "unmask")
    names = [name for name in parties.names if name != "site-02" or is_in]
    assert list(found.sites) == names
    np.testing.assert_array_equal(
        parties.layout.to_words(found.counts), parties.in_the_clear(*names)
    )


def test_site_that_missed_the_first_sum_has_no_part_in_the_second(
    parties: AuditedParties,
) -> None:
    seen = []

    def fault(now: str, site: str, exchange: int) -> str | None:
        seen.extend([now] if now == ANNOUNCE and site == "site-01" else [])
        return "before" if site == "site-02" and len(seen) < 2 else None

    parties.engine.fault = fault
    found = parties.audit()
    assert "site-02" not in found.sites
    assert parties.examiners["site-02"].asked == []


@pytest.mark.parametrize("num_sites", [5, 7])
def test_no_count_is_asked_for_where_a_site_has_too_few_images(
    tmp_path: Path, num_sites: int
) -> None:
    parties = AuditedParties(tmp_path, num_sites=num_sites)
    parties.examiners["site-03"].own = None
    trained(parties)
    with pytest.raises(TrainingError, match=f"1 of {num_sites} have fewer"):
        parties.audit()
    assert announcements(parties) == num_sites
    assert not any(examiner.asked for examiner in parties.examiners.values())


@pytest.mark.parametrize("num_poor", [1, 2])
def test_server_that_lies_about_the_first_sum_gets_no_counts_of_fewer_sites(
    tmp_path: Path, num_poor: int
) -> None:
    """It says to all that every site has images enough: who has not knows better."""
    parties = AuditedParties(tmp_path)
    poor = parties.names[:num_poor]
    for name in poor:
        parties.examiners[name].own = None
    trained(parties)
    with pytest.raises(TrainingError, match=f"{num_poor} of 5 have fewer"):
        parties.audit()
    say(parties, word=1, honest=5 - num_poor, lie=5)
    if num_poor == 1:
        found = parties.audit()
        assert found.sites == parties.names[1:]
        np.testing.assert_array_equal(
            parties.layout.to_words(found.counts),
            parties.in_the_clear(*found.sites, by_class=False),
        )
    else:  # three are fewer than t
        with pytest.raises(TrainingError, match="no secure sum"):
            parties.audit()
    assert not any(parties.examiners[name].asked for name in poor)


@pytest.mark.parametrize("num_sites", [5, 7])
def test_no_class_is_counted_where_one_site_has_too_few_images_of_one(
    tmp_path: Path, num_sites: int
) -> None:
    """Also not the others: what they left of the whole would be one site's counts of that class."""
    parties = AuditedParties(tmp_path, num_sites=num_sites)
    examiner = parties.examiners["site-04"]
    examiner.own = dataclasses.replace(examiner.own, able=np.array([1, 0, 1]))
    trained(parties)
    found = parties.audit()
    assert found.classes == frozenset()
    assert not any(side.members.any() or side.others.any() for side in found.counts.classes)
    np.testing.assert_array_equal(
        parties.layout.to_words(found.counts), parties.in_the_clear(by_class=False)
    )


def negative(counts: PooledCounts) -> PooledCounts:
    first = counts.attacks[0]
    members = first.members - 1000 * (np.arange(first.members.size) == 0)
    members = members + 1000 * (np.arange(members.size) == 1)  # the total is as it should be
    changed = dataclasses.replace(first, members=members)
    return dataclasses.replace(counts, attacks=(changed, *counts.attacks[1:]))


def too_many(counts: PooledCounts) -> PooledCounts:
    return dataclasses.replace(
        counts,
        attacks=tuple(
            dataclasses.replace(
                each,
                members=each.members + 10_000,
                pseudo_members=each.pseudo_members + 10_000,
            )
            for each in counts.attacks
        ),
    )


def other_images(counts: PooledCounts) -> PooledCounts:
    first, second = counts.attacks
    return dataclasses.replace(
        counts, attacks=(first, dataclasses.replace(second, members=second.members + 1))
    )


def long_features(counts: PooledCounts) -> PooledCounts:
    moments = dataclasses.replace(counts.moments, total=counts.moments.total + 2_000_000)
    return dataclasses.replace(counts, moments=moments)


def other_class(counts: PooledCounts) -> PooledCounts:
    first, *rest = counts.classes
    more = dataclasses.replace(first, members=first.members + 1, others=first.others + 1)
    return dataclasses.replace(counts, classes=(more, *rest))


def many_sites(counts: PooledCounts) -> PooledCounts:
    return dataclasses.replace(counts, answered=40, entered=40)


@pytest.mark.parametrize(
    "lie", [negative, too_many, other_images, long_features, other_class, many_sites]
)
def test_counts_that_no_honest_sites_enter_are_not_used(
    parties: AuditedParties, lie: Callable[[PooledCounts], PooledCounts]
) -> None:
    parties.examiners["site-05"].change = lie
    with pytest.raises(TrainingError, match="no honest sites enter such"):
        parties.audit()


@pytest.mark.parametrize("what", ["raises", "wrong length", "beyond the limit"])
def test_examination_that_fails_enters_zeros_and_tells_nobody_but_the_site(
    tmp_path: Path, what: str
) -> None:
    parties = AuditedParties(tmp_path, num_sites=7)
    trained(parties)

    def fails(counts: PooledCounts) -> PooledCounts:
        if what == "raises":
            raise RuntimeError("a denoiser's NaN")
        if what == "wrong length":
            return dataclasses.replace(counts, able=np.zeros(50, np.int64))
        return dataclasses.replace(counts, entered=2**40)

    parties.examiners["site-02"].change = fails
    found = parties.audit()
    assert found.sites == parties.names
    assert (found.counts.answered, found.counts.entered) == (6, 6)
    others = [name for name in parties.names if name != "site-02"]
    np.testing.assert_array_equal(
        parties.layout.to_words(found.counts), parties.in_the_clear(*others)
    )
    assert [line["event"] for line in parties.sites["site-02"].log] == ["training-failed"]


def test_server_killed_between_the_sums_goes_on_to_the_same_counts(
    parties: AuditedParties,
) -> None:
    first_sum(parties)
    for name in parties.names:
        parties.with_audit(name)  # sites too were started again
    found = parties.audit()
    np.testing.assert_array_equal(parties.layout.to_words(found.counts), parties.in_the_clear())


def test_site_that_was_away_takes_the_final_state_that_others_signed(tmp_path: Path) -> None:
    parties = AuditedParties(tmp_path)
    parties.engine.fault = lambda stage, site, exchange: "before" if site == "site-04" else None
    trained(parties)
    parties.engine.fault = lambda stage, site, exchange: None
    found = parties.audit()
    assert found.sites == parties.names
    seen = parties.examiners["site-04"].seen[0]
    np.testing.assert_array_equal(seen, released_parameters(parties.state, parties.config))


def test_site_refuses_an_audit_of_another_model(parties: AuditedParties) -> None:
    changed = dataclasses.replace(parties.state, ema=parties.state.ema + np.float32(1e-3))
    parties.state = changed
    with pytest.raises(TrainingError, match=r"another-model|behind"):
        parties.audit()
    assert not any(examiner.asked for examiner in parties.examiners.values())


def test_second_sum_needs_the_first_one_that_the_site_heard(
    parties: AuditedParties, tmp_path: Path
) -> None:
    parties.audit()
    second = [
        body for stage, name, body in parties.engine.sent if (stage, name) == (ANNOUNCE, "site-01")
    ][1]
    # A copy of the site from before the audit: it heard no first sum.
    (tmp_path / "site-01" / "audit-first.bin").unlink()
    (tmp_path / "site-01" / "audit.jsonl").write_bytes(b"")
    parties.with_audit("site-01")
    with pytest.raises(SiteFailure) as caught:
        parties.sites["site-01"].handle(ANNOUNCE, second)
    assert caught.value.code is FailureCode.BEHIND


def test_server_that_lies_about_a_class_gets_no_counts_of_the_site_without_it(
    tmp_path: Path,
) -> None:
    """Else the whole, less the classes of all others, would be that site's own histogram."""
    parties = AuditedParties(tmp_path)
    examiner = parties.examiners["site-04"]
    examiner.own = dataclasses.replace(examiner.own, able=np.array([1, 1, 0]))
    trained(parties)
    first_sum(parties)
    say(parties, word=4, honest=4, lie=5)
    found = parties.audit()
    assert "site-04" not in found.sites
    assert examiner.asked == []


def test_server_that_pretends_a_first_sum_which_sites_did_not_hear_is_refused(
    tmp_path: Path,
) -> None:
    parties = AuditedParties(tmp_path)
    examiner = parties.examiners["site-04"]
    examiner.own = dataclasses.replace(examiner.own, able=np.array([1, 1, 0]))
    trained(parties)
    first_sum(parties)
    say(parties, word=4, honest=4, lie=5, places=("server",))
    with pytest.raises(TrainingError, match="another-model"):
        parties.audit()
    assert not any(examiner.asked for examiner in parties.examiners.values())


def first_sum(parties: AuditedParties) -> None:
    """Up to the server's death before the second one."""
    heard = []

    def fault(stage: str, site: str, exchange: int) -> str | None:
        heard.append(stage)
        return "crash" if heard.count(ANNOUNCE) > len(parties.names) else None

    parties.engine.fault = fault
    with pytest.raises(ServerKilled):
        parties.audit()
    parties.engine.fault = lambda stage, site, exchange: None


def say(
    parties: AuditedParties,
    *,
    word: int,
    honest: int,
    lie: int,
    places: tuple[str, ...] | None = None,
) -> None:
    """What a server that signs a false first sum leaves at sites and in its own folder."""
    for place in places or (*parties.names, "server"):
        kept = parties.path / place / "audit-first.bin"
        summed = SummedRound.from_bytes(
            kept.read_bytes(),
            peer="test",
            packed_size=pooled_terms(parties.config).masked_bytes,
        )
        words = bytearray(summed.packed)
        assert words[4 * word] == honest
        words[4 * word] = lie
        kept.write_bytes(dataclasses.replace(summed, packed=bytes(words)).to_bytes())


def test_audit_of_other_sites_after_one_was_signed_is_refused(parties: AuditedParties) -> None:
    parties.audit()
    (parties.path / "server" / "audit-rounds.jsonl").unlink()  # a server that forgets
    parties.engine.fault = lambda stage, site, exchange: "before" if site == "site-02" else None
    with pytest.raises(TrainingError, match="no secure sum"):
        parties.audit()
