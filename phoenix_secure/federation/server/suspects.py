"""Which sites may have entered what no honest site enters, and how a run goes on without them.

A refused sum names nobody. Its round is given up, and from the next one on the server sets the
masked inputs of a few sites aside, as if they had come too late. Whom, it draws when all are about
to send theirs, and tells nobody before: a site cannot lie for the case that another one is set
aside. To the sites these are rounds like all others, with sites missing: no rule is loosened.

- *Explanations* are the sets of at most c sites that could have spoiled every refused sum: a set
  that was absent as a whole from one of them is none. That is arithmetic, and holds whatever liars
  do. A site in every explanation is left out for good: no c sites explain the sums without it.
- What else the sums say are odds: whoever lies does so each time or now and then, so that a right
  sum speaks for those who were in it. The draw sets the likeliest explanations aside. After a while
  everybody is summed once more, and after ever longer, so that a wrong guess does not stay.
- A draw holds an explanation, so that each refused sum ends one: rounds are not lost for ever.

Nothing here is a proof for others, who cannot see that a sum was refused. With more than c liars it
can hit honest sites, as everything can that counts on c. With c = 0 nobody lies, so that no set of
sites explains a refused sum: the run stops at the first one, and people look for the cause.

Source: group testing with at most c defectives (Dorfman, 1943), the pools drawn after the fact.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import random
from collections.abc import Iterable

import numpy as np

from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.secagg.terms import SecureTerms

__all__ = ["SuspectSearch", "WrongSum"]

_log = logging.getLogger(__name__)
_MAX_EXPLANATIONS = 20_000
_NUM_DRAWS = 4
_ENOUGH = 0.5  # of the odds: one round in two tells, and few honest sites wait
_LIES_EACH_TIME = 0.5  # how often a liar lies, where the sums do not say
_FIRST_PATIENCE = 4  # right sums in a row before everybody is summed once more; doubled each time


class WrongSum(TrainingError):  # noqa: N818 - it is what the sum is
    """A sum that no honest sites enter together; nothing of it was used.

    what             without the way on
    search_goes_on   whether the next round may tell more, or do without who lies
    has_model        whether a round before was summed, so that a run can end without this one
    """

    has_model = False

    def __init__(self, what: str, *, search_goes_on: bool) -> None:
        super().__init__(f"{what}. Find it and resume with --skip-round")
        self.what = what
        self.search_goes_on = search_goes_on


class SuspectSearch:
    """The search of one server process among ``members``, the roster in its order.

    rng   draws whom to set aside; nobody may foresee it
    """

    def __init__(
        self,
        members: tuple[str, ...],
        *,
        terms: SecureTerms,
        rng: random.Random | None = None,
    ) -> None:
        self._members = members
        self._threshold = terms.threshold
        self._cohort_size = terms.cohort_size
        self._num_colluders = terms.num_colluders
        self._rng = rng or random.SystemRandom()
        self._explanations = _sets_of_sites(len(members), at_most=terms.num_colluders)
        self._largest = int(self._explanations.sum(axis=1).max(initial=0))
        self._odds = np.ones(len(self._explanations))
        self._is_on = False
        self._everybody = True  # nobody was set aside for a guess in the newest sum
        self._calm = 0  # right sums in a row
        self._patience = _FIRST_PATIENCE // 2
        self._wrong: list[int] = []
        self._aside: frozenset[str] = frozenset()  # of the newest draw

    @property
    def convicted(self) -> frozenset[str]:
        """Sites without which no c sites explain the refused sums."""
        if self._largest < self._num_colluders or not len(self._explanations):
            return frozenset()
        return self._named(np.asarray(self._explanations.all(axis=0)))

    def set_aside(self, present: Iterable[str]) -> frozenset[str]:
        """Whose inputs of ``present`` the sum is made without: a new draw each time."""
        here = self._mask(present)
        aside = self._mask(self.convicted) & here
        self._everybody = not self._is_on or self._calm >= self._patience
        if not self._everybody:
            aside = here & (aside | self._draw(here, size=self._spare(int(here.sum()))))
        self._aside = self._named(aside)
        return self._aside

    def _draw(self, here: np.ndarray, *, size: int) -> np.ndarray:
        """Likely explanations, of at most ``size`` present sites together."""
        best, most = np.zeros_like(here), -1.0
        for _ in range(_NUM_DRAWS):
            drawn, covered = np.zeros_like(here), 0.0
            for row in self._by_odds():
                more = drawn | self._explanations[row]
                if int((more & here).sum()) > size:
                    continue
                drawn = more
                inside = ~(self._explanations & here & ~drawn).any(axis=1)
                covered = float(self._odds[inside].sum() / self._odds.sum())
                if covered >= _ENOUGH:
                    break
            if covered > most:
                best, most = drawn, covered
        return best

    def _by_odds(self) -> list[int]:
        """Some explanations, the likelier ones rather earlier (Efraimidis and Spirakis, 2006)."""
        keys = [math.log(1 - self._rng.random()) / odds for odds in self._odds.tolist()]
        return heapq.nlargest(32, range(len(keys)), key=keys.__getitem__)

    def _spare(self, num_present: int) -> int:
        """How many inputs a sum can do without.

        Those who lie may fall silent later in the round, too: c are kept in hand where that leaves
        room for an explanation.
        """
        spare = num_present - self._threshold
        kept = spare - self._num_colluders
        return kept if kept >= self._largest else spare

    def wrong(self, round_number: int, why: str, *, survivors: tuple[str, ...]) -> WrongSum:
        """Take in a refused sum; the error that says so, and what is known by now."""
        honest = self._chance_of_honesty(survivors)
        fits = honest < 1  # somebody of it was in the sum
        self._explanations = self._explanations[fits]
        self._odds = _scaled((self._odds * (1 - honest))[fits])
        if not self._is_on or self._everybody:
            self._patience *= 2
        self._is_on, self._calm = True, 0
        self._wrong.append(round_number)
        spare = self._spare(self._cohort_size)
        goes_on = bool((self._explanations.sum(axis=1) <= spare).any())
        if not goes_on:
            why += f" ({self._why_not(spare)})"
        if self.convicted:
            why += f". {self.finding}"
        return WrongSum(f"round {round_number}: {why}. Nothing was used", search_goes_on=goes_on)

    def right(self, round_number: int, *, survivors: tuple[str, ...]) -> None:
        """Take in a sum that was right, which speaks for the ``survivors``."""
        if not self._is_on:
            return
        self._calm += 1
        if not self._everybody:
            self._odds = _scaled(self._odds * self._chance_of_honesty(survivors))
            return
        _log.warning(
            "round %d: the sum over all suspected sites was right; sums of rounds %s were refused, "
            "and nobody is suspected any more",
            round_number,
            self._refused,
        )
        self._is_on, self._odds = False, np.ones(len(self._explanations))

    def _chance_of_honesty(self, survivors: tuple[str, ...]) -> np.ndarray:
        """For each explanation: how often its sites spoil no sum over ``survivors``."""
        num_in = (self._explanations & self._mask(survivors)).sum(axis=1)
        return np.asarray((1 - _LIES_EACH_TIME) ** num_in)

    @property
    def reasons(self) -> dict[str, str]:
        """Why the newest sum was made without some sites, for the round's report."""
        gone, why = self.convicted, f"the refused sums of rounds {self._refused}"
        return {
            site: f"left out: no {self._num_colluders} sites explain {why} without it"
            if site in gone
            else f"set aside: {why} are traced"
            for site in sorted(self._aside)
        }

    @property
    def finding(self) -> str:
        """Who is left out for good, and on what grounds; empty while nobody is."""
        if not self.convicted:
            return ""
        return (
            f"Left out for good: {', '.join(sorted(self.convicted))}, since no "
            f"{self._num_colluders} sites can have spoiled the sums of rounds {self._refused} "
            "without it (by the server's word; sites see no refused sum)"
        )

    def _why_not(self, spare: int) -> str:
        """Why no further round tells more."""
        if self._num_colluders == 0:
            return (
                "secure_aggregation.collusion = 0 assumes that every site is honest: nobody is "
                "left out on a suspicion"
            )
        if not len(self._explanations):
            return (
                f"no {self._largest} sites explain the refused sums of rounds {self._refused}: "
                "more sites lie than may"
            )
        return (
            f"nobody can be left out: of {self._cohort_size} sites a sum needs {self._threshold}"
            if spare < 1
            else f"whoever lies is among more sites than the {spare} a sum can do without"
        )

    @property
    def _refused(self) -> str:
        return ", ".join(map(str, self._wrong))

    def _mask(self, sites: Iterable[str]) -> np.ndarray:
        wanted = set(sites)
        return np.array([site in wanted for site in self._members])

    def _named(self, mask: np.ndarray) -> frozenset[str]:
        return frozenset(itertools.compress(self._members, mask))


def _scaled(odds: np.ndarray) -> np.ndarray:
    """The same odds, far from underflow."""
    return np.maximum(odds / odds.max(), 1e-12) if odds.size else odds


def _sets_of_sites(num_sites: int, *, at_most: int) -> np.ndarray:
    """(m, num_sites) bool: all sets of 1 to ``at_most`` sites; smaller ones where they are many."""
    counts = itertools.accumulate(math.comb(num_sites, size) for size in range(1, at_most + 1))
    largest = min(at_most, max(1, sum(count <= _MAX_EXPLANATIONS for count in counts)))
    sets = [s for k in range(1, largest + 1) for s in itertools.combinations(range(num_sites), k)]
    rows = np.zeros((len(sets), num_sites), dtype=bool)
    for row, members in zip(rows, sets, strict=True):
        row[list(members)] = True
    return rows
