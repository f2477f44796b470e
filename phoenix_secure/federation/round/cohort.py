"""Who is asked in which round: drawn from the run's public seed, by the server and by each site.

The seed is a setting: between machines it is in the plan that every owner approved, so that the
cohorts of all rounds are fixed before any key is shown, and nobody draws again afterwards. The
draw protects no update. What protects them holds for the worst cohort there is
(``SecureTerms.num_colluders`` counts the whole roster), so that a server which tries seeds before
it proposes a plan gains nothing from it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass

import numpy as np

from phoenix_secure.config import RunConfig
from phoenix_secure.rng import SeedTree

__all__ = ["CohortDraw", "cohort_of_round", "cohort_size", "draw_cohort", "max_participations"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CohortDraw:
    """What decides the cohorts of a run, beside its roster.

    ``seeds`` is the run's public seed.
    """

    seeds: SeedTree
    participation: float
    min_sites: int

    @classmethod
    def of(cls, config: RunConfig) -> CohortDraw:
        """The draw of a run with these settings."""
        return cls(
            seeds=SeedTree(config.seed),
            participation=config.federation.participation,
            min_sites=config.federation.min_sites,
        )

    def cohort(self, sites: tuple[str, ...], round_number: int) -> tuple[str, ...]:
        """The sites asked in one training round, sorted."""
        return draw_cohort(
            sites,
            participation=self.participation,
            min_sites=self.min_sites,
            rng=self.seeds.child("cohort", round_number).numpy(),
        )


def cohort_size(config: RunConfig) -> int:
    """Sites asked in each round of a run over all its sites."""
    federation = config.federation
    return _size(
        config.partition.num_sites,
        participation=federation.participation,
        min_sites=federation.min_sites,
    )


def draw_cohort(
    sites: tuple[str, ...], *, participation: float, min_sites: int, rng: np.random.Generator
) -> tuple[str, ...]:
    """The sites asked in one round, sorted: a share of all, without replacement."""
    size = _size(len(sites), participation=participation, min_sites=min_sites)
    if size == len(sites):
        return tuple(sorted(sites))
    chosen = rng.choice(len(sites), size=size, replace=False)
    return tuple(sorted(sites[i] for i in chosen))


def cohort_of_round(
    sites: tuple[str, ...], round_number: int, *, config: RunConfig, seeds: SeedTree
) -> tuple[str, ...]:
    """The cohort of one round of a run whose draws start at ``seeds``."""
    return dataclasses.replace(CohortDraw.of(config), seeds=seeds).cohort(sites, round_number)


def max_participations(config: RunConfig) -> int:
    """The most rounds in which any one site is asked, as long as all sites are there.

    The draws are public, so that they hide nobody: privacy is accounted for round by round, with
    no amplification by the cohort. Where sites may sit out rounds, the others can be drawn more
    often: every round counts then.
    """
    rounds, num_sites = config.federation.rounds, config.partition.num_sites
    if config.filtering.is_on or config.federation.participation == 1:
        return rounds
    sites = tuple(f"{number:06d}" for number in range(num_sites))
    seeds = SeedTree(config.seed)
    drawn = Counter(
        site
        for round_number in range(1, rounds + 1)
        for site in cohort_of_round(sites, round_number, config=config, seeds=seeds)
    )
    return max(drawn.values())


def _size(num_sites: int, *, participation: float, min_sites: int) -> int:
    return min(num_sites, max(min_sites, 1, round(participation * num_sites)))
