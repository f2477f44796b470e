"""A run's guarantee, in figures and in words; or that it guarantees nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from phoenix_secure.privacy.events import Event, event_to_dict

__all__ = ["NO_GUARANTEE", "Guarantee", "Promised", "StartedFrom", "SumTrust"]

_ADJACENCY = {
    "none": "",
    "record": "add or remove one image of one site",
    "group": "add or remove all images of one person of one site",
    "site": "add or remove one whole site",
}
_REPLACED = {
    "none": "",
    "record": "replace one image of one site by another",
    "group": "replace one person's images of one site by another's, or some of hers",
    "site": "replace one whole site by another",
}
_NOT_PROTECTED = {
    "none": (),
    "record": (
        "how many images a site has, where it counts (privacy.release_metrics)",
        "facts that hold for many images of a site or of all sites",
        "one person with several images: epsilon grows with their number",
        "whether a site takes part, how long it computes and when it fails",
        "figures of an evaluation or audit on real images: no noise is added to them",
    ),
    "group": (
        "how many images a site has, where it counts (privacy.release_metrics)",
        "facts that hold for many persons of a site or of all sites",
        "one person whose images are at several sites: their epsilons add up for her "
        "(phoenix-secure privacy overlap)",
        "one person under two identifiers in data.group: she counts as two",
        "whether a site takes part, how long it computes and when it fails",
        "figures of an evaluation or audit on real images: no noise is added to them",
    ),
    "site": (
        "facts that hold for many sites",
        "one organisation that runs several sites: epsilon grows with their number",
        "whether a site takes part, how long it computes and when it fails",
    ),
}
_TRUSTED = {
    "none": {},
    "record": {
        "each site": "with its own images; it adds all of its noise itself",
        "server": "with nothing",
        "other sites": "with nothing but not to hold images of the same person",
        "reader of the model": "with nothing",
    },
    "group": {
        "each site": "with its own images, and to name each person alike in all of them; it adds "
        "all of its noise itself",
        "server": "with nothing",
        "other sites": "with nothing but not to hold images of the same person",
        "reader of the model": "with nothing",
    },
    "site": {
        "each site": "with its own images, and to add its share of the noise",
        "server": "with nothing, as long as secure aggregation is on",
        "other sites": "all but c of a round must be honest",
        "reader of the model": "with nothing",
    },
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SumTrust:
    """Assumptions of noise that the sites add together (``privacy.trust: sum``).

    num_sites       n of the federation
    num_colluders   c of them may work with the server
    num_shares      t - max(1, c): shares of noise that every sum holds and neither the colluders
                    know nor, with c = 0, a site that looks for itself
    epsilon_alone   what a site keeps if all others work with the server
    surplus         noise of a sum over everybody, in units of the noise that is accounted for
    """

    num_sites: int
    num_colluders: int
    num_shares: int
    epsilon_alone: float
    surplus: float

    @property
    def text(self) -> str:
        honest = (
            f"at most {self.num_colluders} of {self.num_sites} sites work with the server"
            if self.num_colluders
            else f"none of the {self.num_sites} sites works with the server or with another site"
        )
        return (
            f"as long as {honest} "
            f"(if all others do: epsilon {self.epsilon_alone:.4g}); a sum over every site "
            f"holds {self.surplus:.3g} times the noise that this needs"
        )

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "text": self.text}


@dataclass(frozen=True, kw_only=True, slots=True)
class Promised:
    """An earlier run's guarantee for its own images; ``epsilon`` None: none."""

    unit: str
    epsilon: float | None
    delta: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StartedFrom:
    """The model that a run started from, and what was promised to the images behind it.

    sha256     of the model's form and weights
    is_known   whether it came from runs of this software, which say what they promised
    earlier    those runs' guarantees, oldest first
    is_counted   whether this run's epsilon is of all of them together
    events     of those runs, where it is
    """

    sha256: str
    is_known: bool
    earlier: tuple[Promised, ...] = ()
    is_counted: bool = False
    events: tuple[Event, ...] = ()

    def composed(self, *, unit: str, epsilon: float, delta: float) -> tuple[float, float] | None:
        """What holds for an image (or site) of this run and of all earlier ones: basic composition.

        None where one of them promised nothing, or something of another unit.
        """
        if not self.earlier or not self.is_known:
            return None
        if self.is_counted:
            return epsilon, delta
        total, total_delta = epsilon, delta
        for each in self.earlier:
            if each.unit != unit or each.epsilon is None or each.delta is None:
                return None
            total, total_delta = total + each.epsilon, total_delta + each.delta
        return total, total_delta

    def text(self, *, unit: str, epsilon: float | None, delta: float | None) -> str:
        """A clause for the guarantee of a run that goes on from the model."""
        start = f"starts from the model {self.sha256[:16]}"
        if not self.is_known:
            return f"{start} from elsewhere: nothing is promised to the images behind it"
        told = []
        for each in self.earlier:
            if each.epsilon is None or each.delta is None:
                return f"{start} of an earlier run without a guarantee: its images have none"
            told.append(f"({each.epsilon:.4g}, {each.delta:g}) per {each.unit}")
        if self.is_counted:
            return f"{start}, on which {' and '.join(told)} was spent: this is counted in"
        spent = f"{start}, on which {' and '.join(told)} was spent for its own images"
        both = None
        if epsilon is not None and delta is not None:
            both = self.composed(unit=unit, epsilon=epsilon, delta=delta)
        if both is None:
            return f"{spent}; an image of both runs has no guarantee"
        return f"{spent}; a {unit} of both runs has ({both[0]:.4g}, {both[1]:.4g})"

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        del values["is_counted"], values["events"]
        if self.is_counted:  # unwritten where older readers know all there is
            values |= {"is_counted": True, "events": [event_to_dict(e) for e in self.events]}
        return values


@dataclass(frozen=True, kw_only=True, slots=True)
class Guarantee:
    """A guarantee of differential privacy.

    unit                none, record, group (a person) or site
    adjacency           what two neighbouring data sets differ in
    condition           what they have in common beyond that, such as "for a fixed partition"
    epsilon, delta      of the whole run as planned: no site's releases can exceed it
    replace_one         epsilon at the same delta for neighbours that replace one record (or site)
    figures             each accountant's own epsilon, by name
    noise_multiplier    standard deviation of the noise in clip norms
    clip_norm           of one image's gradient (record), one person's (group) or one update (site)
    sampling_rate       each image's (person's) chance to enter a step (record, group)
    steps               noised steps over the run (record, group), or noised sums (site)
    releases            rounds in which one site may answer
    mechanism, sampler, noise_source
    trust               what noise that the sites add together rests on; else None
    per_site            epsilon spent so far by each site's own ledger, where it can be read
    start               the model that the run went on from; None: fresh weights
    events              of this run, which ``epsilon`` composes with those of a counted start
    """

    unit: str
    epsilon: float | None = None
    delta: float | None = None
    replace_one: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    replace_one_figures: Mapping[str, float] = field(default_factory=dict)
    noise_multiplier: float | None = None
    clip_norm: float | None = None
    sampling_rate: float | None = None
    steps: int | None = None
    releases: int | None = None
    mechanism: str = ""
    sampler: str = ""
    noise_source: str = ""
    per_site: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    condition: str = ""
    trust: SumTrust | None = None
    start: StartedFrom | None = None
    events: tuple[Event, ...] = ()

    @property
    def adjacency(self) -> str:
        return ", ".join(filter(None, (_ADJACENCY[self.unit], self.condition)))

    @property
    def holds(self) -> bool:
        """Whether anything is guaranteed."""
        return self.epsilon is not None

    @property
    def text(self) -> str:
        """One line, with unit, adjacency and delta beside every epsilon."""
        if self.start is None:
            return self._own_text
        clause = self.start.text(unit=self.unit, epsilon=self.epsilon, delta=self.delta)
        return f"{self._own_text}; {clause}"

    @property
    def _own_text(self) -> str:
        if self.unit == "none":
            return "no formal guarantee: differential privacy is off"
        if self.epsilon is None:
            return (
                "no formal guarantee: the noise is seeded, and whoever knows the seed removes it "
                f"(with secret noise the same settings are {self.unit}-level)"
            )
        replaced = ""
        if self.replace_one is not None:
            replaced = f", epsilon {self.replace_one:.4g} ({_REPLACED[self.unit]})"
        return (
            f"({self.epsilon:.4g}, {self.delta:g})-differential privacy per {self.unit} "
            f"({self.adjacency}){replaced}; {self.mechanism}, noise multiplier "
            f"{self.noise_multiplier:.4g}{'' if self.trust is None else '; ' + self.trust.text}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for summaries, reports and machines."""
        return {
            "unit": self.unit,
            "adjacency": self.adjacency,
            "epsilon": self.epsilon,
            "delta": self.delta,
            "figures": dict(self.figures),
            "replace_one": {
                "adjacency": _REPLACED[self.unit],
                "epsilon": self.replace_one,
                "figures": dict(self.replace_one_figures),
            },
            "noise_multiplier": self.noise_multiplier,
            "clip_norm": self.clip_norm,
            "sampling_rate": self.sampling_rate,
            "steps": self.steps,
            "releases": self.releases,
            "mechanism": self.mechanism,
            "sampler": self.sampler,
            "noise_source": self.noise_source,
            "per_site": dict(self.per_site),
            "trusted": self._trusted,
            "not_protected": list(_NOT_PROTECTED[self.unit]),
            "warnings": list(self.warnings),
            "text": self.text,
            # Unwritten where noise is no matter of trust: older readers know the rest.
            **({"events": [event_to_dict(each) for each in self.events]} if self.events else {}),
            **({} if self.trust is None else {"trust": self.trust.to_dict()}),
            **({} if self.start is None else {"start": self._start}),
        }

    @property
    def _start(self) -> dict[str, Any]:
        assert self.start is not None  # noqa: S101 - the caller asked
        text = self.start.text(unit=self.unit, epsilon=self.epsilon, delta=self.delta)
        return {**self.start.to_dict(), "text": text}

    @property
    def _trusted(self) -> dict[str, str]:
        if self.trust is None:
            return dict(_TRUSTED[self.unit])
        return {
            "each site": "with its own images, and to add its share of the noise",
            "server": "with nothing, as long as secure aggregation is on",
            "other sites": f"at most {self.trust.num_colluders} of {self.trust.num_sites} work "
            "with the server; none holds images of the same person"
            if self.trust.num_colluders
            else "none works with the server or with another site, or holds images of the same "
            "person",
            "reader of the model": "with nothing",
        }


NO_GUARANTEE = Guarantee(unit="none")
