"""The graph and threshold of a secure round, or a refusal that names settings that would do."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator

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
from protocol.regular_graph import RegularGraph

__all__ = ["choose_threshold"]


def choose_threshold(config: RunConfig, *, cohort: int) -> CompleteGraph | RegularGraph:
    """How many of ``cohort`` sites must stay, and how many of the roster may collude.

    Raises:     ConfigError naming the settings, and the largest values that would do.
    """
    _require_enough_sites(config, cohort=cohort)
    _require_fitting_graph(config, cohort=cohort)
    num_sites, settings = config.partition.num_sites, config.secure_aggregation
    found = _chosen(cohort, num_sites, settings.collusion, settings.dropout)
    if found is not None:
        return found
    raise ConfigError(
        f"secure aggregation over {cohort} of {num_sites} sites is not possible with "
        f"secure_aggregation.collusion={settings.collusion:g} and "
        f"secure_aggregation.dropout={settings.dropout:g}: "
        f"set {', or '.join(_ways_out(config, cohort=cohort))}"
    )


def _chosen(
    cohort: int, num_sites: int, collusion: float, dropout: float
) -> CompleteGraph | RegularGraph | None:
    # Whether the k-regular graph is asked for was settled before; up to 128 sites it is not used.
    try:
        return choose(
            cohort, roster_size=num_sites, gamma=collusion, delta=dropout, allow_regular=True
        )
    except ValueError:
        return None


def _ways_out(config: RunConfig, *, cohort: int) -> Iterator[str]:
    """Fewer that vanish, fewer that collude; both where neither alone will do.

    One of these always exists: one colluder and nobody who vanishes leaves a quorum of any five.
    """
    num_sites, settings = config.partition.num_sites, config.secure_aggregation
    # None at all is another assumption, which nobody should make for a number's sake.
    colluders = range(1, num_colluders(num_sites, gamma=settings.collusion))
    collusions = [_share(count, num_sites) for count in colluders]
    dropouts = [_share(count, cohort) for count in range(math.ceil(settings.dropout * cohort))]

    def works(collusion: float, dropout: float) -> bool:
        return _chosen(cohort, num_sites, collusion, dropout) is not None

    fewer_vanish = _largest(dropouts, lambda each: works(settings.collusion, each))
    fewer_collude = _largest(collusions, lambda each: works(each, settings.dropout))
    if fewer_vanish is not None:
        yield f"secure_aggregation.dropout={fewer_vanish:g}"
    if fewer_collude is not None:
        yield f"secure_aggregation.collusion={fewer_collude:g}"
    if fewer_vanish is None and fewer_collude is None:
        collusion = _largest(collusions, lambda each: works(each, 0.0)) or 0.0
        dropout = _largest(dropouts, lambda each: works(collusion, each)) or 0.0
        yield f"secure_aggregation.collusion={collusion:g} secure_aggregation.dropout={dropout:g}"


def _largest(ascending: list[float], works: Callable[[float], bool]) -> float | None:
    """The largest value that works: all those below it do, too."""
    place = bisect_left(ascending, True, key=lambda each: not works(each))
    return ascending[place - 1] if place else None


def _share(count: int, of: int) -> float:
    """The largest share of three digits that is no more than ``count``."""
    return math.floor(1000 * count / of) / 1000


def _require_fitting_graph(config: RunConfig, *, cohort: int) -> None:
    """Refuse more sites than the complete graph is for, and the weaker one where it is not needed.

    Raises:     ConfigError naming the settings.
    """
    is_regular = config.secure_aggregation.graph == "regular"
    if cohort > MAX_COMPLETE and not is_regular:
        share = _share(MAX_COMPLETE, config.partition.num_sites)
        raise ConfigError(
            f"secure aggregation on the complete graph is over {MAX_COMPLETE} sites a round at "
            f"most, and there would be {cohort}: set federation.participation={share} or less, or "
            "secure_aggregation.graph=regular, a weaker option (docs/secure-rounds.md, More than "
            f"{MAX_COMPLETE} sites)"
        )
    if cohort <= MAX_COMPLETE and is_regular:
        raise ConfigError(
            f"secure_aggregation.graph=regular is for more than {MAX_COMPLETE} sites a round, and "
            f"there would be {cohort}: set secure_aggregation.graph=complete, which is stronger"
        )


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
