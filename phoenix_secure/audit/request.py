"""What a user asks of an audit."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Any, Literal

from phoenix_secure.audit.profiles import EVERY_ATTACK, Profile
from phoenix_secure.errors import ConfigError
from phoenix_secure.extensions import ExtensionPoint, extension_names

__all__ = ["Request"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """The user's request. ``attacks`` None: all of the profile's."""

    profile: Profile
    seed: int = 0
    attacks: tuple[str, ...] | None = None
    fprs: tuple[float, ...] = (0.1, 0.01, 0.001)
    significance: float = 0.05
    edition: Literal["public", "confidential"] = "public"
    federated: bool = False

    def __post_init__(self) -> None:
        if self.attacks is not None:
            known = {*EVERY_ATTACK, *extension_names(ExtensionPoint.ATTACK)}
            unknown = sorted(set(self.attacks) - known)
            if unknown or not self.attacks:
                raise ConfigError(
                    f"--attack {', '.join(unknown)} is not known: use {', '.join(EVERY_ATTACK)}"
                )
        if not self.fprs or not all(0 < fpr < 1 for fpr in self.fprs):
            raise ConfigError("--fpr must lie between 0 and 1, such as 0.01")

    @property
    def terms(self) -> dict[str, Any]:
        """The terms fixed before there is a model; :meth:`AuditPlan.keeps` compares."""
        return {
            "version": importlib.metadata.version("phoenix-secure"),
            "profile": self.profile.name,
            "seed": self.seed,
            "attacks": list(self.names),
            "fprs": sorted(self.fprs, reverse=True),
            "significance": self.significance,
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The attacks asked for, in the order of the full profile; then installed ones."""
        wanted = self.attacks or self.profile.attacks
        return (*(name for name in EVERY_ATTACK if name in wanted), *self.own)

    @property
    def own(self) -> tuple[str, ...]:
        """Installed attacks that were asked for by name."""
        return tuple(name for name in self.attacks or () if name not in EVERY_ATTACK)
