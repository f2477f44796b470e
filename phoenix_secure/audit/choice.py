"""Which of the attacks asked for can be run on a target, and why the others cannot."""

from __future__ import annotations

from dataclasses import dataclass

from attacks.records import Images
from phoenix_secure.audit.attack import (
    AskedModel,
    Attack,
    own_attacks,
    query_attacks,
    sample_attacks,
)
from phoenix_secure.audit.checkpoint_attack import checkpoint_attack, checkpoint_obstacle
from phoenix_secure.audit.extraction import extraction_obstacle
from phoenix_secure.audit.gradient_inversion import inversion_obstacle
from phoenix_secure.audit.planning import DERIVED, GAMES
from phoenix_secure.audit.questions import ask_every_way
from phoenix_secure.audit.reading import PixelScale
from phoenix_secure.audit.request import Request
from phoenix_secure.audit.roles import Roles
from phoenix_secure.audit.shadow_attacks import SHADOW_ATTACKS
from phoenix_secure.audit.shadows import shadow_obstacle
from phoenix_secure.audit.target import Target
from phoenix_secure.audit.white_box import WHITE_BOX
from phoenix_secure.errors import ConfigError
from phoenix_secure.rng import SeedTree

__all__ = ["RunnableAttacks", "choose_attacks"]

_FEWEST_OF_SET = 20  # a side, for a test of whole sets
_DEPENDENT = "takes images for independent, and several of one person are not"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunnableAttacks:
    """attacks give one score an image; ``shadowed`` and ``games`` are names of those that need
    shadow models, or play another game; ``skipped`` says why a name is in none of them."""

    attacks: tuple[Attack, ...]
    shadowed: tuple[str, ...]
    games: tuple[str, ...]
    skipped: dict[str, str]


def choose_attacks(
    target: Target,
    request: Request,
    *,
    roles: Roles,
    samples: Images | None,
    scale: PixelScale,
    has_canaries: bool,
    has_persons: bool,
    seeds: SeedTree,
) -> RunnableAttacks:
    """The attacks asked for that can be run on ``target``.

    Where none of those gives one score an image, the plainest that does comes with them.

    Raises:     ConfigError where none can be run.
    """
    possible = _possible(target, request, roles=roles, samples=samples, scale=scale, seeds=seeds)
    by_name = {attack.name: attack for attack in possible}
    skipped: dict[str, str] = {}
    for name in request.names:
        if name in by_name or name in DERIVED:
            continue
        why = _obstacle(
            name,
            target,
            roles=roles,
            samples=samples,
            has_canaries=has_canaries,
            has_persons=has_persons,
        )
        if why is not None:
            skipped[name] = why
    runnable = [name for name in request.names if name not in skipped]
    chosen = [by_name[name] for name in runnable if name in by_name]
    shadowed = tuple(name for name in runnable if name in (*SHADOW_ATTACKS, *WHITE_BOX))
    games = tuple(name for name in runnable if name in GAMES)
    if not chosen and not shadowed and games:
        chosen = [by_name[name] for name in ("loss", "nearest") if name in by_name][:1]
    if not chosen and not shadowed:
        reasons = "; ".join(f"{name} {why}" for name, why in skipped.items())
        raise ConfigError(f"none of the attacks asked for can be run: {reasons or 'choose others'}")
    return RunnableAttacks(attacks=tuple(chosen), shadowed=shadowed, games=games, skipped=skipped)


def _possible(
    target: Target,
    request: Request,
    *,
    roles: Roles,
    samples: Images | None,
    scale: PixelScale,
    seeds: SeedTree,
) -> list[Attack]:
    found: list[Attack] = []
    if samples is not None:
        found += sample_attacks(
            samples, calibration=None if roles.calibration is None else roles.calibration.images
        )
    if target.model is None:
        return found

    def made(asked: AskedModel) -> tuple[Attack, ...]:
        return (
            *query_attacks(asked, profile=request.profile, seeds=seeds),
            *own_attacks(request.own, asked, profile=request.profile, seeds=seeds),
        )

    found += ask_every_way(made, target.model, labels=roles.labels, scale=scale)
    if "checkpoints" in request.names and checkpoint_obstacle(target) is None:
        found.append(checkpoint_attack(target, profile=request.profile, seeds=seeds))
    return found


def _obstacle(
    name: str,
    target: Target,
    *,
    roles: Roles,
    samples: Images | None,
    has_canaries: bool,
    has_persons: bool,
) -> str | None:
    """Why the attack cannot be run, or None."""
    if name in ("nearest-calibrated", "domias"):
        return "needs 40 reference images that are neither members nor non-members"
    if name in (*SHADOW_ATTACKS, *WHITE_BOX):
        return shadow_obstacle(target, roles=roles)
    match name:
        case "checkpoints":
            return checkpoint_obstacle(target)
        case "extraction":
            num = None if samples is None else len(samples)
            return _DEPENDENT if has_persons else extraction_obstacle(target, num_samples=num)
        case "gradient-inversion":
            return inversion_obstacle(target)
        case "canaries":
            planted = None if has_canaries else "needs a run that planted them (audit.canaries)"
            return planted if target.model is not None else "needs a denoiser"
    if target.model is None:
        what = "a folder of samples" if target.generator is None else "a release's generator"
        return f"needs a denoiser, and the target is {what}"
    if name == "dataset-inference":
        members = int(roles.evaluation.membership.sum())
        if has_persons:
            return _DEPENDENT
        return None if members >= 2 * _FEWEST_OF_SET else "needs 40 members and non-members"
    return None
