"""The plan of an audit: what is tried on which images, fixed before the first score."""

from __future__ import annotations

import importlib.metadata
from typing import Protocol

from attacks.records import Images
from phoenix_secure.audit.attack import Access, Attack
from phoenix_secure.audit.canaries import Canaries, plan_canaries
from phoenix_secure.audit.persons import EvaluatedPersons
from phoenix_secure.audit.plan import AuditPlan, PlannedAttack, PlannedGroup
from phoenix_secure.audit.request import Request
from phoenix_secure.audit.roles import Group, Roles
from phoenix_secure.audit.target import Target
from phoenix_secure.audit.units import low_fpr_of

__all__ = ["DERIVED", "GAMES", "plan_of"]

# Attacks made of the scores of others.
DERIVED = ("loss-quantile", "combined")
# Attacks with a game of their own, and what the attacker holds in it.
GAMES = {
    "dataset-inference": "denoiser queries, and a whole set of images",
    "extraction": "released samples",
    "gradient-inversion": "a round's updates, or their sum",
    "canaries": "denoiser queries, and images that were planted",
}
_MAX_DETECTABLE = 0.60


class Runnable(Protocol):
    """The attacks that this target allows (``choice.RunnableAttacks``)."""

    @property
    def attacks(self) -> tuple[Attack, ...]: ...

    @property
    def shadowed(self) -> tuple[str, ...]: ...

    @property
    def games(self) -> tuple[str, ...]: ...


def plan_of(
    target: Target,
    request: Request,
    *,
    roles: Roles,
    runnable: Runnable,
    samples: Images | None,
    planted: Canaries | None,
    persons: EvaluatedPersons | None,
) -> AuditPlan:
    """The plan of what ``request`` asks for and this target allows, before any score is known."""
    key = target.digest_key()
    names = {attack.name: attack for attack in runnable.attacks}
    shadowed = runnable.shadowed
    shadow_steps = tuple(f"alpha_bar={level:g}" for level in request.profile.noise_levels)
    derived = [name for name in request.names if name in DERIVED]
    others = int((~roles.evaluation.membership).sum())
    return AuditPlan(
        version=importlib.metadata.version("phoenix-secure"),
        target_kind=target.kind,
        target_sha256=target.sha256,
        profile=request.profile.name,
        seed=request.seed,
        attacks=(
            *(
                PlannedAttack(name=a.name, access=a.access.value, settings=a.settings)
                for a in names.values()
            ),
            *(
                PlannedAttack(name=name, access=Access.QUERIES.value, settings=())
                for name in derived
            ),
            *(
                PlannedAttack(name=name, access=_shadow_access(name), settings=shadow_steps)
                for name in shadowed
            ),
            *(PlannedAttack(name=name, access=GAMES[name], settings=()) for name in runnable.games),
        ),
        fprs=tuple(sorted(request.fprs, reverse=True)),
        low_fpr=low_fpr_of(request.fprs, num_others=others),
        confidence=0.95,
        significance=request.significance,
        max_detectable_auc=_MAX_DETECTABLE,
        choice=_planned(roles.choice, key=key),
        evaluation=_planned(roles.evaluation, key=key),
        persons=None if persons is None else persons.planned(request.fprs),
        num_calibration=0 if roles.calibration is None else len(roles.calibration.images),
        num_samples=0 if samples is None else len(samples),
        num_shadows=2 * request.profile.num_shadow_pairs if shadowed else 0,
        canaries=None if planted is None else plan_canaries(planted, claim=target.claim),
        claim=target.claim,
    )


def _planned(group: Group, *, key: bytes | None) -> PlannedGroup:
    return PlannedGroup(
        num_members=int(group.membership.sum()),
        num_others=int((~group.membership).sum()),
        sha256=group.digest(key=key),
    )


def _shadow_access(name: str) -> str:
    return (Access.WHITE_BOX if name == "gsa" else Access.SHADOWS).value
