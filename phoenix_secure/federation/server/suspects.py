"""Which sites may have entered what no honest site enters, by sums that leave groups of them out.

A refused sum names nobody. Its round is given up, and the next rounds, each with a training of its
own, leave out one group after another until a sum is right: who lies each time was in what was left
out then. Everybody is asked once more, to see whether it lies still. To the sites these are rounds
like all others, from which some sites are absent: no rule of theirs is loosened, and a server that
does not do as it says learns no more than it could before.

- The groups are fixed by the roster, once and for all. Whatever sums are subtracted, nothing finer
  than a group appears, and with all C colluders in it a group still has ``MIN_HONEST`` others.
- Nothing is proven: who sees that a group is absent can behave then, to put suspicion on it. Nobody
  is excluded; the run stops and names the group, for people to ask.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable

from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.secagg.terms import SecureTerms
from protocol.parameters import MIN_HONEST

__all__ = ["SuspectSearch", "WrongSum"]

_log = logging.getLogger(__name__)


class WrongSum(TrainingError):  # noqa: N818 - it is what the sum is
    """A sum that no honest sites enter together; nothing of it was used.

    what             without the way on
    search_goes_on   whether the next round may tell more, by leaving out a group
    """

    def __init__(self, what: str, *, search_goes_on: bool) -> None:
        super().__init__(f"{what}. Find it and resume with --skip-round")
        self.what = what
        self.search_goes_on = search_goes_on


class SuspectSearch:
    """The search of one server process among ``members``, the roster in its order."""

    def __init__(self, members: tuple[str, ...], *, terms: SecureTerms) -> None:
        self._members = members
        self._threshold = terms.threshold
        self._smallest = terms.num_colluders + MIN_HONEST
        self._is_whole = terms.cohort_size == len(members)
        self.groups = self._partition()
        self._suspected: tuple[frozenset[str], ...] | None = None  # None: no sum was wrong
        self._num_wrong = 0  # in all; what follows is of the search under way
        self._wrong: list[int] = []
        self._right: list[int] = []
        self._absent: set[str] = set()  # in the newest sum, without having been left out

    def _partition(self) -> tuple[frozenset[str], ...]:
        """Consecutive groups, as small as they may be; none where a sum cannot spare one."""
        num_sites = len(self._members)
        num_groups = num_sites // self._smallest
        if num_groups < 2 or not self._is_whole:
            return ()
        cuts = [num_sites * k // num_groups for k in range(num_groups + 1)]
        groups = tuple(frozenset(self._members[a:b]) for a, b in itertools.pairwise(cuts))
        largest = max(len(group) for group in groups)
        return groups if num_sites - largest >= self._threshold else ()

    def left_out(self, askable: Iterable[str]) -> frozenset[str]:
        """Whom the next round leaves out of ``askable``.

        Half of the suspected groups, or as many as a sum can spare; nobody where no sum was wrong,
        or where one group is left: if the next sum is wrong again, it lies time after time.
        """
        suspected = self._suspected or ()
        if len(suspected) == 1 and self._right:
            return frozenset()
        present = set(askable)
        spare = len(present - self._absent) - self._threshold
        found: frozenset[str] = frozenset()
        for group in suspected[: max(1, len(suspected) // 2)]:
            if len((found | group) & present - self._absent) <= spare:
                found |= group
        return found & present

    def wrong(
        self,
        round_number: int,
        why: str,
        *,
        askable: tuple[str, ...],
        survivors: tuple[str, ...],
    ) -> WrongSum:
        """Take in a refused sum; the error that says so, and what is known by now."""
        self._absent = set(askable) - set(survivors) - self.left_out(askable)
        self._wrong.append(round_number)
        self._num_wrong += 1
        suspected = self.groups if self._suspected is None else self._suspected
        # Who was not in it did not spoil it.
        self._suspected = tuple(g for g in suspected if not g.isdisjoint(survivors))
        # Who lies each time is found after a refused sum for each group; who lies now and then
        # would cost rounds for ever.
        goes_on = self._num_wrong <= len(self.groups) and bool(self.left_out(askable))
        who = self._finding()
        if who is None:
            who = (
                f"one of {', '.join(survivors)} does not run the agreed software; the sum does not "
                f"say which{'' if goes_on else f' ({self._why_not()})'}"
            )
        return WrongSum(
            f"round {round_number}: no honest sites enter such a sum: {why}: {who}. Nothing was "
            "used",
            search_goes_on=goes_on,
        )

    def right(
        self, round_number: int, *, askable: tuple[str, ...], survivors: tuple[str, ...]
    ) -> None:
        """Take in a sum that was right: who lies each time was not in it."""
        if self._suspected is None:
            return
        self._absent = set(askable) - set(survivors) - self.left_out(askable)
        self._right.append(round_number)
        self._suspected = tuple(g for g in self._suspected if not g.issubset(survivors))
        if not self._suspected:
            _log.warning(
                "round %d: the sum over all suspected sites was right; sums of rounds %s were "
                "refused, and nobody is suspected any more",
                round_number,
                _listed(self._wrong),
            )
            self._suspected, self._wrong, self._right = None, [], []

    def _finding(self) -> str | None:
        """The one group that fits all sums, once they were wrong with it and right without."""
        if not self._right or self._suspected is None or len(self._suspected) != 1:
            return None
        return (
            f"probably one of {', '.join(sorted(self._suspected[0]))} does not run the agreed "
            f"software: sums of rounds {_listed(self._wrong)} were refused, and those of rounds "
            f"{_listed(self._right)}, without all of this group, were right. It is no proof, since "
            "another site could make it look so, and nobody is excluded"
        )

    def _why_not(self) -> str:
        """Why no further round tells more."""
        if self.groups and self._suspected and self._num_wrong <= len(self.groups):
            return f"no group can be left out while {', '.join(sorted(self._absent))} are away"
        if self.groups:
            return "it is not in one group alone, or lies now and then, or reacts to who is asked"
        if not self._is_whole:
            return "with federation.participation below 1 no groups are left out to find it"
        return (
            f"a group of {self._smallest}, the fewest whose part may show, cannot be left out: of "
            f"{len(self._members)} sites a sum needs {self._threshold}"
        )


def _listed(rounds: list[int]) -> str:
    return ", ".join(map(str, rounds))
