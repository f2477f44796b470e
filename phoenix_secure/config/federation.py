"""Rounds and the server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from phoenix_secure.config.section import Extensible, Section
from phoenix_secure.extensions import ExtensionPoint

__all__ = ["EmaConfig", "FederationConfig"]


class FederationConfig(Section):
    """Rounds, participation, and the server's use of the summed updates."""

    rounds: int = Field(10, ge=1, le=100_000, description="[rounds] Communication rounds.")
    # Unwritten where it says what files from before it existed say by silence.
    exchange: Literal["updates", "gradients"] = Field(
        "updates",
        exclude_if=lambda exchange: exchange == "updates",
        description="[name] What a site enters into a round. updates: what local_steps of its own "
        "training changed. gradients: one step's gradient; the server and every site take the step "
        "of server_optimizer from the sum, as one place with all images would.",
    )
    first_rounds: int | None = Field(
        None,
        ge=1,
        exclude_if=lambda rounds: rounds is None,
        description="[rounds] What an extended run was started with; `resume --rounds` writes it.",
    )
    participation: float = Field(
        1.0, gt=0, le=1, description="[fraction] Share of sites sampled for each round."
    )
    min_sites: int = Field(
        1,
        ge=1,
        description="[sites] Ask at least so many in a round, and stop when fewer answer it in the "
        "clear; a secure round always needs its threshold.",
    )
    server_optimizer: Annotated[
        str,
        Extensible(ExtensionPoint.SERVER_OPTIMIZER, ("fedavg", "fedavgm", "fedadam", "fedyogi")),
    ] = Field(
        "fedavg",
        description="[name] How the mean update moves the model (Reddi 2021), or the name of an "
        "installed server optimizer.",
    )
    server_learning_rate: float = Field(
        1.0,
        gt=0,
        le=100,
        description="[1] Server step size; with exchange "
        "gradients times training.learning_rate at the step.",
    )
    server_momentum: float = Field(
        0.9, ge=0, lt=1, description="[1] Momentum of FedAvgM, beta1 of FedAdam and FedYogi."
    )
    server_beta2: float = Field(0.99, ge=0, lt=1, description="[1] beta2 of FedAdam and FedYogi.")
    server_tau: float = Field(
        1e-3, gt=0, le=10, description="[1] Adaptivity floor tau of FedAdam and FedYogi."
    )
    workers: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="[sites] Sites trained at once; empty: as many as cores or GPUs.",
    )
    threads_per_site: int = Field(
        1,
        ge=1,
        le=256,
        description="[threads] CPU threads of one site; part of what makes a run repeatable.",
    )
    roster_changes: Literal["none", "remove"] = Field(
        "none",
        exclude_if=lambda changes: changes == "none",
        description="[name] Changes of the roster that owners approve beforehand (deployment). "
        "none: another roster needs another plan. remove: sites may be suspended, resumed or "
        "revoked; the rounds that follow are without them.",
    )
    deadline_s: float = Field(
        86_400.0,
        gt=0,
        description="[seconds] A site that has not answered a round by then is left out.",
    )


class EmaConfig(Section):
    """Moving average of the global model, kept at the server; sampling uses it."""

    decay: float = Field(
        0.995, ge=0, lt=1, description="[1] Decay for each local step; 0 turns the average off."
    )
    warmup: bool = Field(
        True, description="[flag] Start with a short memory: min(d, (1+n)/(10+n))."
    )
