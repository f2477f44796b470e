"""The rules behind "one sum a round", checked by Z3 for federations of every size.

Two attempts A and B unlock a sum each. The server and the colluders do what they like; honest
sites keep the rules below. Every rule of a site compares what it is asked with what it did before,
one by one, and more history only forbids more. So if any history of attempts, restarts and
re-numbered rounds has an attack, two of its attempts alone are one, and nothing else is to be
searched.

An attack is a pair of sums over one honest site's input of one training round that are not the same
sum: their difference shows what no sum shows (So et al. 2023, arXiv:2106.03328).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import z3

from phoenix_secure.federation.site.promises import SiteRecord
from protocol import RemoteProtocolError, SentInput
from protocol.parameters import MIN_HONEST
from site_counts import SiteCounts

Number = int | z3.ArithRef


@dataclass(frozen=True)
class Attempt:
    """What a site is asked to sign. ``number`` tells the attempts of one protocol round apart."""

    round: Number
    number: Number
    training_round: Number
    model: Number


# The rules, over plain numbers as well as over Z3's.


def exceeds_half(quorum: Number, *, cohort: Number, colluders: Number):
    """Two quorums of one cohort share more than c sites, hence an honest one."""
    return 2 * quorum > cohort + colluders


def share_a_signer(quorums: Number, *, union: Number, colluders: Number):
    """The same for the quorums of two cohorts, of which ``quorums`` is the sum."""
    return quorums - union > colluders


def signs_once(a: Attempt, b: Attempt, *, same_set):
    """A site signs one survivor set a protocol round."""
    return z3.Implies(a.round == b.round, z3.And(a.number == b.number, same_set))


def signs_the_same_again(a: Attempt, b: Attempt, *, same_set):
    """A training round that is signed again is signed for the same model and survivors."""
    again = z3.And(a.model == b.model, same_set)
    return z3.Implies(a.training_round == b.training_round, again)


ALL = (
    "colluders counted on the roster",
    "quorum above half of cohort and colluders",
    "quorum leaves three honest sites",
    "shares against a quorum of signatures",
    "one set signed per protocol round",
    "same model and survivors when signed again",
    "inputs only into attempts that share a signer",
    "promises on disk before anything leaves",
)


class Rounds:
    """Two attempts under the rules that are not ``broken``."""

    def __init__(self, *broken: str, one_context: bool = False) -> None:
        assert set(broken) <= set(ALL)
        names = ("colluder", *(f"{what}_{x}" for x in "ab" for what in ("cohort", "input", "sign")))
        self.sites = SiteCounts(names, possible=_is_possible)
        self.keeps = set(ALL) - set(broken)
        self.a, self.b = (
            Attempt(*(z3.Int(f"{field.name} of {x}") for field in dataclasses.fields(Attempt)))
            for x in "AB"
        )
        self.one_context = one_context
        self.solver = z3.Solver()
        self.solver.add(*self.sites.facts, *self._rules())

    def _rules(self) -> list:
        size, none, keeps = self.sites.size, self.sites.none, self.keeps
        colluders, q_a, q_b = z3.Int("c"), z3.Int("quorum of A"), z3.Int("quorum of B")
        same_set = self.same_set
        rules = [colluders >= 0, q_a >= 1, q_b >= 1]  # 0: three or four sites
        if "colluders counted on the roster" in keeps:
            rules += [size(lambda s: s.colluder) <= colluders]
        else:
            rules += [colluders <= size(lambda s: s.colluder), size(lambda s: s.colluder) <= 3]
        for quorum, x in ((q_a, "a"), (q_b, "b")):
            cohort = size(lambda s, x=x: getattr(s, f"cohort_{x}"))
            signers = size(lambda s, x=x: getattr(s, f"sign_{x}"))
            rules += [quorum <= cohort, size(lambda s, x=x: getattr(s, f"input_{x}")) >= quorum]
            if "quorum above half of cohort and colluders" in keeps:
                rules += [exceeds_half(quorum, cohort=cohort, colluders=colluders)]
            if "quorum leaves three honest sites" in keeps:
                rules += [quorum - colluders >= MIN_HONEST]
            if "shares against a quorum of signatures" in keeps:
                rules += [signers >= quorum]
        if "promises on disk before anything leaves" not in keeps:
            return rules
        no_honest_signed_both = none(lambda s: not s.colluder and s.sign_a and s.sign_b)
        if "one set signed per protocol round" in keeps:
            once = signs_once(self.a, self.b, same_set=same_set)
            rules += [z3.Or(no_honest_signed_both, once)]
        if "same model and survivors when signed again" in keeps:
            again = signs_the_same_again(self.a, self.b, same_set=same_set)
            rules += [z3.Or(no_honest_signed_both, again)]
        union = size(lambda s: s.cohort_a or s.cohort_b)
        if self.one_context:
            # One offer, one input; the server may still show two survivor sets for it.
            fields = zip(dataclasses.astuple(self.a), dataclasses.astuple(self.b), strict=True)
            rules += [x == y for x, y in fields]
            rules += [none(lambda s: s.cohort_a != s.cohort_b), q_a == q_b]
        elif "inputs only into attempts that share a signer" in keeps:
            shared = share_a_signer(q_a + q_b, union=union, colluders=colluders)
            other_round = self.a.training_round != self.b.training_round
            rules += [z3.Or(self.no_common_input, other_round, shared)]
        return rules

    @property
    def same_set(self):
        return self.sites.none(lambda s: s.input_a != s.input_b)

    @property
    def no_common_input(self):
        return self.sites.none(lambda s: not s.colluder and s.input_a and s.input_b)

    def two_sums(self):
        """Whether one training round can give two different sums over one honest input."""
        same = z3.And(self.same_set, self.a.model == self.b.model)
        same_round = self.a.training_round == self.b.training_round
        return self._finds(same_round, z3.Not(self.no_common_input), z3.Not(same))

    def small_sum(self):
        """Whether a sum can hide an honest input among fewer than three."""
        honest = self.sites.size(lambda s: s.input_a and not s.colluder)
        return self._finds(honest >= 1, honest < MIN_HONEST)

    def _finds(self, *attack) -> bool:
        found = self.solver.check(*attack)
        assert found != z3.unknown
        return found == z3.sat


def _is_possible(s: SimpleNamespace) -> bool:
    """Signers are survivors, survivors are in the cohort; the client checks both."""
    return (s.sign_a <= s.input_a <= s.cohort_a) and (s.sign_b <= s.input_b <= s.cohort_b)


@pytest.mark.parametrize("one_context", [False, True])
def test_a_training_round_gives_one_sum(one_context: bool) -> None:
    rounds = Rounds(one_context=one_context)
    assert rounds.solver.check() == z3.sat, "the rules must allow a round"
    assert not rounds.two_sums()
    assert not rounds.small_sum()


@pytest.mark.parametrize("broken", ALL)
def test_every_rule_is_needed(broken: str) -> None:
    """A model that finds nothing when a rule is broken would prove nothing when it is kept."""
    attacked = [
        attack(Rounds(broken, one_context=one_context))
        for one_context in (False, True)
        for attack in (Rounds.two_sums, Rounds.small_sum)
    ]
    # On one context alone the protocol's own promise stands, without the application's.
    if broken == "one set signed per protocol round":
        assert not any(attacked), "the application's promise covers it"
        both = (broken, "same model and survivors when signed again")
        assert Rounds(*both, one_context=True).two_sums()
        assert not Rounds(both[1], one_context=True).two_sums()
    else:
        assert any(attacked)


# The code keeps the rules of the model: small cases, all of them.


def test_specifications_keep_the_quorum_rule(simulation) -> None:
    spec = simulation.Federation(5).spec
    for n in range(5, 10):
        cohort = tuple(f"site-{i:03d}" for i in range(n))
        for c in range(1, 4):
            for quorum in range(c + 1, n + 1):
                parts = {"cohort": cohort, "num_colluders": c, "quorum": quorum}
                try:
                    dataclasses.replace(spec, **parts, threshold=quorum)
                    accepted = True
                except ValueError:
                    accepted = False
                assert accepted == exceeds_half(quorum, cohort=n, colluders=c)


def test_policies_keep_three_honest_sites_and_the_roster_s_colluders(simulation) -> None:
    members = simulation.Federation(20, collusion=0.1)
    for n in range(5, 12):
        for c in range(1, 4):
            quorum = (n + c) // 2 + 1
            spec = dataclasses.replace(
                members.spec,
                cohort=members.ids[:n],
                num_colluders=c,
                quorum=quorum,
                threshold=quorum,
            )
            try:
                members.policy.check(spec, own_id=members.ids[0], roster=members.roster)
                accepted = True
            except RemoteProtocolError:
                accepted = False
            assert accepted == (c >= 2 and quorum - c >= MIN_HONEST)


def test_sites_keep_the_rule_on_other_cohorts() -> None:
    sites = [f"site-{i}" for i in range(12)]
    for size in range(4, 9):
        for shift in range(5):
            for quorum in range(2, size + 1):
                a, b = (
                    SentInput(
                        context=bytes([first]),
                        cohort=tuple(sites[first : first + size]),
                        quorum=quorum,
                        num_colluders=1,
                    )
                    for first in (0, shift)
                )
                rule = share_a_signer(2 * quorum, union=size + shift, colluders=1)
                assert a.excludes_second_sum(b) == rule


def test_records_on_disk_keep_both_promises(tmp_path: Path) -> None:
    values = [(r, t, m, s) for r in (1, 2) for t in (1, 2) for m in (1, 2) for s in (1, 2)]
    signed = 0
    for i, first in enumerate(values[::4]):
        for j, second in enumerate(values):
            path = tmp_path / f"{i}-{j}"
            SiteRecord.create(path)
            assert _signs(path, first)
            if _signs(path, second):  # a new process: nothing but the file remembers
                signed += 1
                a, b = (Attempt(r, 0, t, m) for r, t, m, _ in (first, second))
                same = z3.BoolVal(first[3] == second[3])
                for rule in (signs_once, signs_the_same_again):
                    assert z3.is_true(z3.simplify(rule(a, b, same_set=same)))
    assert signed == 6


def _signs(path: Path, values: tuple[int, int, int, int]) -> bool:
    protocol_round, training_round, model, survivors = values
    return SiteRecord(path).sign(
        protocol_round,
        training_round=training_round,
        model_hash=bytes([model]),
        survivors=(f"set-{survivors}",),
    )
