"""The policy of a site's owner: minimums that every plan must meet, whatever was approved."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from phoenix_secure.config import RunConfig
from phoenix_secure.config.section import Section
from phoenix_secure.federation.round.small_consortium import assumes_no_colluders
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.privacy.budget import LARGEST_DELTA, LEAST_DELTA, Budget

__all__ = ["Release", "SitePolicy"]

# Who may get the trained model and its samples: the federation's members, named partners, all.
Release = Literal["consortium", "partners", "public"]


class SitePolicy(Section):
    """Minimums of one site; the section ``policy`` of its site.yaml. The defaults are strict."""

    require_secure_aggregation: bool = Field(
        True, description="[flag] Never let the server see this site's own update."
    )
    require_computed_model: bool = Field(
        True,
        description="[flag] Train only from models that this site computes itself from the sums "
        "(secure_aggregation.broadcast sum), and none that the server sends.",
    )
    min_sites: int = Field(
        5, ge=1, le=65_536, description="[sites] Fewest sites that an update hides among."
    )
    min_collusion: float = Field(
        0.1,
        ge=0,
        lt=0.5,
        description="[fraction] Share of the sites that may work with the server without harm.",
    )
    allow_no_colluders: bool = Field(
        False,
        description="[flag] Take part in secure rounds of three or four sites that assume no "
        "colluder at all (secure_aggregation.collusion 0): this site's update then hides only as "
        "long as no site works with the server or with another site. Stands above min_collusion "
        "there; min_sites must be lowered as well.",
    )
    allow_regular_graph: bool = Field(
        False,
        description="[flag] Take part in secure rounds of more than 128 sites where each shares "
        "masks with a few others only (secure_aggregation.graph regular): this site's update hides "
        "but for a stated chance, and as long as the server does not choose by the graph who "
        "vanishes.",
    )
    allow_pooled_audit: bool = Field(
        False,
        description="[flag] Take part in plans with audit.at_sites: after the last round this site "
        "attacks the model with its own images, and its histograms of scores enter a secure sum "
        "without noise. The privacy guarantee of the plan does not cover that sum.",
    )
    max_rounds: int = Field(
        1000, ge=1, le=100_000, description="[rounds] Longest run that this site takes part in."
    )
    max_epsilon: float | None = Field(
        None,
        gt=0,
        description="[1] Largest epsilon of a plan's differential privacy; plans without it are "
        "refused. Empty: differential privacy is not asked for.",
    )
    max_delta: float = Field(
        1e-5,
        description="[1] Largest delta that goes with max_epsilon: below 0.01, and well below "
        "1/images.",
    )
    max_total_epsilon: float | None = Field(
        None,
        gt=0,
        description="[1] Largest epsilon of all plans on this site together, at max_delta, by its "
        "own ledger privacy.jsonl; the site stops before the step. Empty: max_epsilon.",
    )
    privacy_units: tuple[Literal["record", "group", "site"], ...] = Field(
        ("record", "group", "site"),
        min_length=1,
        description="[names] Units of differential privacy that count towards max_epsilon: one "
        "image (record), all images of one person (group), one whole site.",
    )
    privacy_trust: tuple[Literal["site-local", "sum"], ...] = Field(
        ("site-local",),
        min_length=1,
        description="[names] With max_epsilon and privacy.unit record or group: where the noise "
        "may be added. site-local: here, all of it. sum: by all sites together, which holds as "
        "long as at most c of them work with the server.",
    )
    require_secure_noise: bool = Field(
        True,
        description="[flag] With max_epsilon: only noise from the operating system's generator "
        "counts; whoever knows the seed of seeded noise removes it.",
    )
    releases: tuple[Release, ...] = Field(
        ("consortium",),
        min_length=1,
        description="[names] Who may get the trained model: consortium, partners, public. Only "
        "proposals through PySyft state it (approver: syft).",
    )

    @field_validator("max_delta")
    @classmethod
    def _says_something(cls, value: float) -> float:
        if not LEAST_DELTA <= value < LARGEST_DELTA:
            raise ValueError(
                f"must be at least {LEAST_DELTA:g} and below {LARGEST_DELTA:g}, since one in so "
                "many images could be fully disclosed: set 1e-5 or less, well below 1/images"
            )
        return value

    @property
    def total_budget(self) -> Budget | None:
        """The budget of all plans together; None where differential privacy is not asked for."""
        epsilon = self.max_total_epsilon or self.max_epsilon
        return None if epsilon is None else Budget(epsilon=epsilon, delta=self.max_delta)

    def release_objection(self, release: str) -> str | None:
        """The objection to a proposal whose model goes to ``release``; None where there is none."""
        if release in self.releases:
            return None
        return f"release to {release} is not among {', '.join(self.releases)}"

    def model_objection(self, config: RunConfig) -> str | None:
        """The objection to a plan whose models come from the server; None where there is none.

        Apart from the others, for a run that an older version began is finished as it began.
        """
        secure = config.secure_aggregation
        if not self.require_computed_model or secure.mode != "on" or secure.broadcast == "sum":
            return None
        return (
            "secure_aggregation.broadcast is not sum: the server could send any model; where you "
            "accept that, set policy.require_computed_model: false"
        )

    def objection(self, plan: Plan) -> str | None:
        """The first rule that ``plan`` breaks, naming the setting; None where it breaks none."""
        config = plan.config
        if self.require_secure_aggregation and config.secure_aggregation.mode != "on":
            return "secure_aggregation.mode is off"
        hiding = self._hiding_objection(config)
        if hiding is not None:
            return hiding
        if config.federation.rounds > self.max_rounds:
            return f"federation.rounds is above {self.max_rounds}"
        if config.audit.at_sites and not self.allow_pooled_audit:
            return (
                "audit.at_sites lets sums over this site's images leave without noise; where you "
                "accept that, policy.allow_pooled_audit: true says so"
            )
        return self._privacy_objection(config)

    def _hiding_objection(self, config: RunConfig) -> str | None:
        """Whether an update hides among too few, or from too few."""
        secure, num_sites = config.secure_aggregation, config.partition.num_sites
        without_colluders = assumes_no_colluders(config)
        if without_colluders and not self.allow_no_colluders:
            return (
                f"secure_aggregation.collusion is 0 among {num_sites} sites: this site hides only "
                "as long as no site works with the server or with another one; where you accept "
                "that, policy.allow_no_colluders: true says so"
            )
        is_sparse = secure.mode == "on" and secure.graph == "regular"
        if is_sparse and not self.allow_regular_graph:
            return (
                "secure_aggregation.graph is regular, a weaker graph: this site hides but for a "
                "stated chance, and as long as the server does not choose who vanishes; where you "
                "accept that, policy.allow_regular_graph: true says so"
            )
        if num_sites < self.min_sites:
            return f"partition.num_sites is below {self.min_sites}"
        asked = config.federation.participation * num_sites
        if max(config.federation.min_sites, round(asked)) < self.min_sites:
            return f"federation.participation asks fewer than {self.min_sites} sites in a round"
        # Without colluders it was allowed by name, above.
        too_few = secure.collusion < self.min_collusion and not without_colluders
        if secure.mode == "on" and too_few:
            return f"secure_aggregation.collusion is below {self.min_collusion:g}"
        return None

    def _privacy_objection(self, config: RunConfig) -> str | None:
        if self.max_epsilon is None:
            return None
        privacy = config.privacy
        if privacy.unit == "none" or privacy.epsilon is None:
            return (
                "the plan has no differential privacy with a stated epsilon and delta "
                "(privacy.unit, privacy.epsilon)"
            )
        if privacy.epsilon > self.max_epsilon or privacy.delta > self.max_delta:
            return f"epsilon or delta is above ({self.max_epsilon:g}, {self.max_delta:g})"
        if privacy.unit not in self.privacy_units:
            return f"privacy.unit is not among {', '.join(self.privacy_units)}"
        if privacy.is_dp_sgd and privacy.trust not in self.privacy_trust:
            return f"privacy.trust is not among {', '.join(self.privacy_trust)}"
        if self.require_secure_noise and privacy.noise_source != "secure":
            return "privacy.noise_source is not secure"
        return None
