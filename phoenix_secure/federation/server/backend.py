"""The interface between a run and its sites, simulated or deployed."""

from __future__ import annotations

from typing import Any, Protocol

from phoenix_secure.config import RunConfig
from phoenix_secure.federation.engines.exchange import Engine
from phoenix_secure.federation.heterogeneity.run_strategies import RunStrategies
from phoenix_secure.federation.round.state import ServerState
from phoenix_secure.federation.run.evaluation import Evaluator
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.run.selected_model import RunModel
from phoenix_secure.federation.run.summary import DeploymentRecord
from phoenix_secure.federation.secagg.model_rule import ModelRule
from phoenix_secure.federation.secagg.privacy_plan import PrivacyPlan
from phoenix_secure.federation.secagg.terms import SecureTerms
from phoenix_secure.federation.server.attempt import Timeouts
from phoenix_secure.federation.server.party import ServerParty
from phoenix_secure.privacy.guarantee import Guarantee

__all__ = ["Backend"]


class Backend(Protocol):
    """The sites of a run, and everything that depends on where they are.

    terms           of secure rounds; None where the server sees every site's update
    rule            how server and sites compute the model; None where the server sends one
    sites_forget    whether the sites' states end with this process (a simulation)
    privacy         what each site may release; None without differential privacy
    evaluator       None where no sample is evaluated
    deployment      federation, plan and code that deployed sites approved; None in a simulation
    witness_every   rounds between two signatures of the sites under the evidence
    """

    config: RunConfig
    model: RunModel
    strategies: RunStrategies
    terms: SecureTerms | None
    rule: ModelRule | None
    sites_forget: bool
    privacy: PrivacyPlan | None
    evaluator: Evaluator | None
    deployment: DeploymentRecord | None
    timeouts: Timeouts
    witness_every: int

    @property
    def sites(self) -> tuple[str, ...]:
        """Every site that may take part, sorted."""
        ...

    def prepare(self, folder: RunFolder) -> None:
        """Write what a new run needs beside its first checkpoint: keys, split, partition."""
        ...

    def check(self, folder: RunFolder) -> None:
        """Refuse to go on with other images than those of the start.

        Raises:     DataError naming the difference.
        """
        ...

    def party(self, folder: RunFolder) -> ServerParty:
        """The server's key and the roster.

        Raises:     CheckpointError when they are missing or changed.
        """
        ...

    def connect(self, folder: RunFolder, *, state: ServerState) -> Engine:
        """Reach the sites, which go on from ``state``.

        Raises:     TrainingError when too few can be reached or accept the plan.
        """
        ...

    def witnesses(self, folder: RunFolder) -> Engine | None:
        """Reach what signs for the sites once the rounds are over; None where nothing does."""
        ...

    def guarantee(self, folder: RunFolder | None = None) -> Guarantee:
        """The run's privacy guarantee; with a folder, also each site's spending so far."""
        ...

    def personal_quality(self, folder: RunFolder, state: ServerState) -> dict[str, Any] | None:
        """Export and evaluate personal models; None where there are none, or sites keep them."""
        ...
