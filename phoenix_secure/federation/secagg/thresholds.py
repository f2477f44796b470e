"""The threshold of a secure round, or a refusal that names settings and values that would do."""

from __future__ import annotations

import math
from collections.abc import Iterator

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import ConfigError
from phoenix_secure.federation.round.small_consortium import assumes_no_colluders
from protocol.parameters import (
    MAX_COMPLETE,
    MIN_CLIENTS,
    MIN_HONEST,
    CompleteGraph,
    choose,
    num_colluders,
)

__all__ = ["choose_threshold"]


def choose_threshold(config: RunConfig, *, cohort: int) -> CompleteGraph:
    """How many of ``cohort`` sites must stay, and how many of the roster may collude.

    Raises:     ConfigError naming the settings, and the largest values that would do.
    """
    _require_enough_sites(config, cohort=cohort)
    num_sites, settings = config.partition.num_sites, config.secure_aggregation
    if cohort > MAX_COMPLETE:
        raise ConfigError(
            f"secure aggregation is over {MAX_COMPLETE} sites a round at most, and there would be "
            f"{cohort}: set federation.participation={_share(MAX_COMPLETE, num_sites)} or less"
        )
    found = _chosen(cohort, num_sites, settings.collusion, settings.dropout)
    if found is not None:
        return found
    raise ConfigError(
        f"secure aggregation over {cohort} of {num_sites} sites is not possible with "
        f"secure_aggregation.collusion={settings.collusion:g} and "
        f"secure_aggregation.dropout={settings.dropout:g}: "
        f"set {', or '.join(_ways_out(config, cohort=cohort))}"
    )


def _chosen(cohort: int, num_sites: int, collusion: float, dropout: float) -> CompleteGraph | None:
    try:
        found = choose(cohort, roster_size=num_sites, gamma=collusion, delta=dropout)
    except ValueError:
        return None
    return found if isinstance(found, CompleteGraph) else None


def _ways_out(config: RunConfig, *, cohort: int) -> Iterator[str]:
    """Fewer that vanish, fewer that collude; both where neither alone will do.

    One of these always exists: one colluder and nobody who vanishes leaves a quorum of any five.
    """
    num_sites, settings = config.partition.num_sites, config.secure_aggregation
    # None at all is another assumption, which nobody should make for a number's sake.
    colluders = range(num_colluders(num_sites, gamma=settings.collusion) - 1, 0, -1)
    collusions = [_share(count, num_sites) for count in colluders]
    vanishing = range(math.ceil(settings.dropout * cohort) - 1, -1, -1)
    dropouts = [_share(count, cohort) for count in vanishing]

    def works(collusion: float, dropout: float) -> bool:
        return _chosen(cohort, num_sites, collusion, dropout) is not None

    fewer_vanish = [each for each in dropouts if works(settings.collusion, each)][:1]
    fewer_collude = [each for each in collusions if works(each, settings.dropout)][:1]
    yield from (f"secure_aggregation.dropout={each:g}" for each in fewer_vanish)
    yield from (f"secure_aggregation.collusion={each:g}" for each in fewer_collude)
    if not fewer_vanish and not fewer_collude:
        both = [(each, of) for each in collusions for of in dropouts if works(each, of)][:1]
        yield from (
            f"secure_aggregation.collusion={each:g} secure_aggregation.dropout={of:g}"
            for each, of in both
        )


def _share(count: int, of: int) -> float:
    """The largest share of three digits that is no more than ``count``."""
    return math.floor(1000 * count / of) / 1000


def _require_enough_sites(config: RunConfig, *, cohort: int) -> None:
    """Refuse cohorts in which no sum hides among three honest sites.

    Raises:     ConfigError naming the settings, also those of the way on for three or four sites.
    """
    least = MIN_HONEST if assumes_no_colluders(config) else MIN_CLIENTS
    if cohort >= least:
        return
    raised = (
        "Raise partition.num_sites or federation.participation; or, on images that are not "
        "secret, switch it off with secure_aggregation.mode=off"
    )
    if least == MIN_CLIENTS and MIN_HONEST <= config.partition.num_sites < MIN_CLIENTS:
        all_stay = (
            " secure_aggregation.dropout=0" if config.partition.num_sites == MIN_HONEST else ""
        )
        raised += (
            f". {config.partition.num_sites} sites that trust each other not to work with the "
            f"server may set secure_aggregation.collusion=0{all_stay}, where every site's policy "
            "says allow_no_colluders: true (docs/secure-rounds.md, Three or four sites)"
        )
    raise ConfigError(
        f"secure aggregation needs at least {least} sites in a round, and there would be "
        f"{cohort}: with fewer, a sum would hide an update among fewer than {MIN_HONEST} honest "
        f"ones. {raised}"
    )
