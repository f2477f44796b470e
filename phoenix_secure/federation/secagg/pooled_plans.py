"""Which plans may have a pooled audit; without torch, for commands that only read a plan."""

from __future__ import annotations

from phoenix_secure.config import RunConfig
from phoenix_secure.errors import ConfigError

__all__ = ["check_pooled_audit"]


def check_pooled_audit(config: RunConfig) -> None:
    """Refuse settings under which sites cannot attack a model that they made themselves.

    Raises:     ConfigError naming the setting and the fix.
    """
    if not config.audit.at_sites:
        return
    secure = config.secure_aggregation
    if config.privacy.unit == "site":
        raise ConfigError(
            "audit.at_sites lets sums leave without noise, and under privacy.unit = site they tell "
            "of whole sites: set audit.at_sites=false"
        )
    if config.release.is_on or config.makes_generator:
        raise ConfigError(
            "audit.at_sites attacks a diffusion model that the sites train, and this plan makes "
            "none: set audit.at_sites=false, and use `phoenix-secure audit` where the images are"
        )
    needed = {
        "secure_aggregation.mode": (secure.mode, "on"),
        "secure_aggregation.broadcast": (secure.broadcast or "sum", "sum"),
        "filtering.threshold": (config.filtering.threshold, 0.0),
        "exchange.personal": (config.exchange.personal, ()),
    }
    wrong = [
        f"{name}={'[]' if value == () else value}"
        for name, (found, value) in needed.items()
        if found != value
    ]
    if wrong:
        raise ConfigError(
            f"audit.at_sites attacks the one model that every site computed: set {' '.join(wrong)}"
        )
    if config.data.held_out == 0:
        raise ConfigError(
            "audit.at_sites compares members with images that nobody trained on: raise "
            "data.held_out"
        )
