"""What a site agrees to take part in; everything else it refuses.

The server proposes all parameters of a round, so each of them is a way to weaken it: a threshold
of one, a tiny cohort, a two-value modulus that shows the sign of every coordinate, noise of zero.
The policy is the site's own file. It knows each field of ``RoundSpec``; a test enumerates them.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import Misbehaviour, RemoteProtocolError
from protocol.identity import SERVER
from protocol.parameters import MIN_CLIENTS, MIN_HONEST, num_colluders
from protocol.roster import Roster
from protocol.spec import RoundSpec
from protocol.suite import Suite

__all__ = ["ClientPolicy"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientPolicy:
    """The rounds that one site accepts: equal values, or bounds where a stricter value is fine.

    collusion        share of the roster that may work with the server (gamma), whatever the cohort
    min_cohort       fewest sites in a round's cohort
    min_honest       fewest honest inputs that any sum may hide among: quorum - num_colluders
    allow_no_colluders   also rounds of three or four sites that assume no colluder at all (c = 0)
    suite            of keys and signatures; there is no fall-back to another one
    min_degree       0: only the complete graph. Above: also k-regular graphs of at least this
    min_threshold    degree, and at least this share threshold; a declared weaker option. A denser
                     graph has more colluders around a site: it takes a threshold in proportion

    Raises:     ValueError for bounds below the protocol's floor (5 sites, 3 honest ones; 3 sites
                where no colluders are allowed for).
    """

    federation_id: str
    roster_hash: bytes
    policy_hash: bytes
    privacy_hash: bytes
    num_words: int
    extra_bounds: tuple[int, ...] = ()
    word_bits: int = 32
    scale: float
    clip: float
    noise_variance: float = 0.0
    collusion: float = 0.1
    min_cohort: int = MIN_CLIENTS
    min_honest: int = MIN_HONEST
    allow_no_colluders: bool = False
    min_degree: int = 0
    min_threshold: int = 0
    suite: Suite = Suite.CLASSICAL

    def __post_init__(self) -> None:
        if not 0 <= self.collusion < 1:
            raise ValueError(f"expected 0 <= collusion < 1, got {self.collusion}")
        floor = MIN_HONEST if self.allow_no_colluders else MIN_CLIENTS
        if self.min_cohort < floor:
            raise ValueError(f"expected min_cohort >= {floor}, got {self.min_cohort}")
        if self.min_honest < MIN_HONEST:
            raise ValueError(f"expected min_honest >= {MIN_HONEST}, got {self.min_honest}")
        if self.min_degree < 0 or (self.min_degree > 0) != (self.min_threshold > 0):
            raise ValueError("expected min_degree and min_threshold both 0 or both above")

    def check(self, spec: RoundSpec, *, own_id: str, roster: Roster) -> None:
        """Refuse ``spec`` unless every parameter is as safe as this policy asks.

        Raises:     RemoteProtocolError(POLICY_REFUSED) naming the parameter.
        """
        for name in (
            "suite",
            "federation_id",
            "roster_hash",
            "policy_hash",
            "privacy_hash",
            "num_words",
            "extra_bounds",
            "word_bits",
            "scale",
            "clip",
            "noise_variance",
        ):
            if getattr(spec, name) != getattr(self, name):
                raise _refusal(name, "differs from the policy's")
        if roster.suite is not self.suite:
            raise _refusal("suite", "is not that of the roster in use")
        if roster.hash != self.roster_hash or roster.federation_id != self.federation_id:
            raise _refusal("roster_hash", "is not that of the roster in use")
        if own_id not in spec.cohort:
            raise _refusal("cohort", "does not hold this site")
        strangers = set(spec.cohort) - {id for id, _ in roster.members}
        if strangers:
            raise _refusal("cohort", f"holds {len(strangers)} ids that are not in the roster")
        self._check_numbers(spec, roster_size=len(roster.members))

    def _check_numbers(self, spec: RoundSpec, *, roster_size: int) -> None:
        n = len(spec.cohort)
        # Before the number of sites, which is no reason to think that nobody colludes.
        if spec.num_colluders == 0 and not self.allow_no_colluders:
            raise _refusal("num_colluders", "is 0, policy does not allow for that")
        if n < self.min_cohort:
            raise _refusal("cohort", f"has {n} sites, policy asks for {self.min_cohort}")
        # Of the roster: a server that picks the cohort puts every colluder in it.
        colluders = num_colluders(roster_size, gamma=self.collusion)
        if spec.num_colluders < colluders:
            raise _refusal("num_colluders", f"is {spec.num_colluders}, policy asks for {colluders}")
        quorum = (n + spec.num_colluders) // 2 + 1
        if spec.quorum < quorum:
            raise _refusal("quorum", f"is {spec.quorum}, policy asks for {quorum}")
        if spec.quorum - spec.num_colluders < self.min_honest:
            raise _refusal("quorum", f"leaves fewer than {self.min_honest} honest inputs")
        if spec.degree == 0:
            threshold = spec.quorum
        elif 0 < self.min_degree <= spec.degree:
            threshold = self.min_threshold
        else:
            raise _refusal("degree", "asks for a sparser graph than the policy allows")
        if spec.threshold < threshold:
            raise _refusal("threshold", f"is {spec.threshold}, policy asks for {threshold}")
        if spec.threshold * self.min_degree < self.min_threshold * spec.degree:
            raise _refusal(
                "threshold", f"is {spec.threshold}, too low for {spec.degree} neighbours"
            )


def _refusal(name: str, what: str) -> RemoteProtocolError:
    return RemoteProtocolError(SERVER, Misbehaviour.POLICY_REFUSED, f"{name} {what}")
