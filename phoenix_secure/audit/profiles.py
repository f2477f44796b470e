"""Audit profiles: sizes only, so that a plan can print all of them."""

from __future__ import annotations

from dataclasses import dataclass

from phoenix_secure.errors import ConfigError

__all__ = ["EVERY_ATTACK", "PROFILES", "Profile", "profile_named"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """The budget of an audit.

    noise_levels:  values of alpha_bar that timesteps are taken at, so that a level means the same
                   in every schedule; 0.9, 0.65 and 0.4 are t = 100, 200 and 300 of Ho's linear one.
    """

    name: str
    max_records: int  # members, and as many non-members, that attacks are evaluated on
    max_choice: int  # members, and as many others, that settings are chosen on
    noise_levels: tuple[float, ...]
    num_noises: int
    num_samples: int  # sampled from the model for the attacks on released images
    sampling_steps: int
    attacks: tuple[str, ...]
    num_shadow_pairs: int = 2  # where an attack with shadows is asked for by name
    num_gradient_steps: int = 4  # timesteps that gradients are taken at
    num_inversions: int = 2  # single steps whose image is reconstructed
    inversion_iterations: int = 60


_SAMPLES = ("nearest", "nearest-calibrated")
_QUERIES = ("loss", "sima", "pia")
_MORE = ("pian", "secmi", "rediffuse", "loss-quantile", "combined")
_SHADOWS = ("lira", "lira-joint", "rmia", "gsa")
_RUNS = ("checkpoints",)
_SETS = ("dataset-inference", "extraction", "canaries")
_SERVER = ("gradient-inversion",)

PROFILES = {
    "smoke": Profile(
        name="smoke",
        max_records=400,
        max_choice=75,
        noise_levels=(0.95, 0.7),
        num_noises=2,
        num_samples=150,
        sampling_steps=10,
        attacks=(*_SAMPLES, *_QUERIES, "combined"),
    ),
    "fast": Profile(
        name="fast",
        max_records=1000,
        max_choice=150,
        noise_levels=(0.97, 0.85, 0.55),
        num_noises=3,
        num_samples=300,
        sampling_steps=20,
        attacks=(*_SAMPLES, "monte-carlo", "domias", *_QUERIES, *_MORE),
    ),
    "full": Profile(
        name="full",
        max_records=10_000,
        max_choice=500,
        noise_levels=(0.99, 0.97, 0.9, 0.75, 0.5, 0.2),
        num_noises=10,
        num_samples=2000,
        sampling_steps=50,
        attacks=(
            *(*_SAMPLES, "monte-carlo", "domias", *_QUERIES, *_MORE),
            *(*_RUNS, *_SHADOWS, *_SETS, *_SERVER),
        ),
        num_shadow_pairs=4,
        num_gradient_steps=10,
        num_inversions=8,
        inversion_iterations=150,
    ),
}

# In any profile, each of these may be asked for by name: at the profile's sizes.
EVERY_ATTACK = PROFILES["full"].attacks


def profile_named(name: str) -> Profile:
    """The profile called ``name``, or a ConfigError that lists them."""
    if name not in PROFILES:
        raise ConfigError(f"profile {name!r} is not known: use {', '.join(PROFILES)}")
    return PROFILES[name]
