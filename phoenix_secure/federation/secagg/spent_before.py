"""What the runs behind ``model.init_from`` have spent, where one budget pays for all of them."""

from __future__ import annotations

import json

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import ConfigError
from phoenix_secure.privacy.events import DiscreteGaussianSum, Event, event_from_dict, unit_of

__all__ = ["spent_before"]


def spent_before(config: RunConfig) -> tuple[Event, ...]:
    """The events of all earlier runs; none unless ``privacy.with_start``.

    They stand in the settings, which every party has and every plan holds: each comes to the same
    noise by itself. An image that only some of the runs have seen is protected better than the
    composition says.

    Raises:     ConfigError where they are not known, or rest on other assumptions.
    """
    start = config.model.start
    if not config.privacy.with_start or start is None:
        return ()
    if start.origin != "run" or not start.earlier or not all(e.events for e in start.earlier):
        raise ConfigError(
            "privacy.with_start: the model of model.init_from does not come from private runs of "
            "this version alone, so that nobody knows what was spent; leave the setting out, or "
            "make that run again"
        )
    if config.privacy.noise_source == "secure" and any(e.epsilon is None for e in start.earlier):
        raise ConfigError(
            "privacy.with_start: a run behind model.init_from drew its noise from a seed, and "
            "promises nothing: make it again with privacy.noise_source=secure"
        )
    try:
        found = [
            event_from_dict(json.loads(text)) for each in start.earlier for text in each.events
        ]
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"privacy.with_start: model.start holds no privacy event: {error}"
        ) from error
    for event in found:
        if unit_of(event) != "record":
            raise ConfigError(
                "privacy.with_start: the run of model.init_from protects persons or whole sites, "
                "whose epsilons and those of images do not add up; leave the setting out"
            )
        is_shared = isinstance(event, DiscreteGaussianSum) and event.num_shares > 1
        if is_shared and config.privacy.trust != "sum":
            raise ConfigError(
                "privacy.with_start: the noise of the run of model.init_from rests on other sites: "
                "set privacy.trust=sum here, too, or leave the setting out"
            )
    return tuple(found)
