"""The threshold of a secure round, or a refusal that names settings and values that would do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

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
    threshold,
)

__all__ = ["Thresholds", "choose_threshold"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """What a round waits for, and whom it withstands.

    quorum           sites that must stay, whose signatures unlock a sum
    num_colluders    sites of the whole roster that may work with the server
    degree           neighbours with which a site exchanges masks; 0: all others
    share_threshold  their shares that rebuild a secret; on the complete graph the quorum
    """

    quorum: int
    num_colluders: int
    share_threshold: int
    degree: int = 0


def choose_threshold(config: RunConfig, *, cohort: int) -> Thresholds:
    """How many of ``cohort`` sites must stay, and how many of the roster may collude.

    Raises:     ConfigError naming the settings, and the largest values that would do.
    """
    _require_enough_sites(config, cohort=cohort)
    num_sites, settings = config.partition.num_sites, config.secure_aggregation
    if cohort > MAX_COMPLETE:
        fewer = f"set federation.participation={_share(MAX_COMPLETE, num_sites)} or less"
        if settings.graph == "complete":
            raise ConfigError(
                f"secure aggregation is over {MAX_COMPLETE} sites a round at most, and there would "
                f"be {cohort}: {fewer}; or allow the weaker secure_aggregation.graph=regular"
            )
        return _on_a_regular_graph(config, cohort=cohort, fewer=fewer)
    found = _chosen(cohort, num_sites, settings.collusion, settings.dropout)
    if found is not None:
        t, c = found.threshold, found.num_colluders
        return Thresholds(quorum=t, num_colluders=c, share_threshold=t)
    raise ConfigError(
        f"secure aggregation over {cohort} of {num_sites} sites is not possible with "
        f"secure_aggregation.collusion={settings.collusion:g} and "
        f"secure_aggregation.dropout={settings.dropout:g}: "
        f"set {', or '.join(_ways_out(config, cohort=cohort))}"
    )


def _on_a_regular_graph(config: RunConfig, *, cohort: int, fewer: str) -> Thresholds:
    """The sparsest graph that withstands what the settings ask for.

    Raises:     ConfigError naming the settings; also under noise that the sites share, whose proof
                is for the complete graph.
    """
    settings, privacy = config.secure_aggregation, config.privacy
    if privacy.unit == "site" or privacy.trust == "sum":
        setting = "privacy.unit=site" if privacy.unit == "site" else "privacy.trust=sum"
        raise ConfigError(
            f"{setting} rests on noise that all sites share, whose proof is for the complete graph "
            f"alone: {fewer}"
        )
    try:
        found = choose(
            cohort,
            roster_size=config.partition.num_sites,
            gamma=settings.collusion,
            delta=settings.dropout,
            allow_regular=True,
        )
        quorum = threshold(cohort, found.num_colluders)
        if quorum > cohort - math.ceil(settings.dropout * cohort):
            raise ValueError("expected a quorum that stands the drop-outs")
    except ValueError as error:
        raise ConfigError(
            f"no graph over {cohort} sites withstands secure_aggregation.collusion="
            f"{settings.collusion:g} and secure_aggregation.dropout={settings.dropout:g}: lower "
            f"them, or {fewer}"
        ) from error
    return Thresholds(
        quorum=quorum,
        num_colluders=found.num_colluders,
        share_threshold=found.threshold,
        degree=0 if isinstance(found, CompleteGraph) else found.degree,
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
