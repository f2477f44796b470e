"""A server that calls an honest site guilty: every other site sees that nothing proves it.

Until 0.1.0 sites heard of no exclusion at all: the server could leave anybody out under any reason,
and no owner but the culprit's would have known.
"""

from __future__ import annotations

import dataclasses

import pytest

from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.round.exclusions import Exclusion, ExclusionNotice
from phoenix_secure.federation.round.stages import EXCLUSION_STAGE
from phoenix_secure.federation.server.journal import SecureJournal
from protocol import Misbehaviour, Proof


@pytest.fixture(scope="module")
def parties(secure_parties, liars, liar, tmp_path_factory: pytest.TempPathFactory):
    """Six sites, of which the last complained falsely in round 1."""
    made = secure_parties.Parties(tmp_path_factory.mktemp("framed"), num_sites=6)
    cheat = liar(made, "site-06")

    def lie(body: bytes, honest) -> bytes:
        complaint, _ = liars.false_complaint(cheat, cheat.session, body, "site-01")
        return liars.complaint_message(cheat, complaint, "site-06", honest())

    cheat.lies_at("mask", lie)
    made.sum()
    return made


@pytest.fixture
def true(parties) -> Exclusion:
    (found,) = SecureJournal(parties.path / "server" / "rounds.jsonl").excluded.values()
    return found


def told(parties, exclusion: Exclusion) -> list[dict]:
    """What ``site-02`` writes down when it hears of ``exclusion`` alone."""
    site = parties.sites["site-02"]
    site.log.clear()
    site.restart()
    site.handle(EXCLUSION_STAGE, ExclusionNotice(exclusions=(exclusion,)).to_bytes())
    return site.log


def test_every_site_writes_down_who_was_convicted_and_that_it_is_proven(parties, true) -> None:
    assert parties.excluded == [true]
    (line,) = told(parties, true)
    assert line["site"] == "site-06"
    assert line["proof"] == true.proof
    assert "false complaint about a dealer" in line["why"]
    assert "proven by its own signed messages" in line["why"]


@pytest.mark.parametrize("victim", ["site-03", "site-01"])
def test_proof_against_one_site_convicts_no_other(parties, true, victim: str) -> None:
    framed = dataclasses.replace(true, site=victim)
    proof = dataclasses.replace(framed, proof=digest_of(framed))
    for lie in (framed, proof):
        (line,) = told(parties, lie)
        assert "by the server's word alone" in line["why"]


def test_message_that_breaks_no_rule_is_not_called_proven(parties, true) -> None:
    lie = dataclasses.replace(true, messages=true.messages[1:2], site="site-06")
    (line,) = told(parties, dataclasses.replace(lie, proof=digest_of(lie)))
    assert "it signed what the server calls so" in line["why"]
    bare = dataclasses.replace(true, messages=(), site="site-03")
    (line,) = told(parties, dataclasses.replace(bare, proof=digest_of(bare)))
    assert "by the server's word alone" in line["why"]


def test_strangers_and_repetitions_do_not_fill_a_log(parties, true) -> None:
    assert told(parties, dataclasses.replace(true, site="site-99")) == []
    told(parties, true)
    site = parties.sites["site-02"]
    site.handle(EXCLUSION_STAGE, ExclusionNotice(exclusions=(true, true)).to_bytes())
    assert len(site.log) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "a reason of the server's own"},
        {"site": "no such\nsite"},
        {"proof": "zz" * 32},
        {"messages": ("not hexadecimal",)},
    ],
)
def test_free_text_never_reaches_a_log(parties, true, change: dict) -> None:
    with pytest.raises(SiteFailure, match="malformed"):
        told(parties, dataclasses.replace(true, **change))
    assert parties.sites["site-02"].log == []


def digest_of(exclusion: Exclusion) -> str:
    """The digest that fits a forged exclusion."""
    return Proof(
        culprit=exclusion.site,
        reason=Misbehaviour(exclusion.reason),
        context=bytes.fromhex(exclusion.context),
        messages=tuple(bytes.fromhex(message) for message in exclusion.messages),
    ).digest.hex()
