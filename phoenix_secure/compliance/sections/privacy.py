"""C: the guarantee, recomputed from the ledger's events."""

from __future__ import annotations

from typing import Any

from phoenix_secure.compliance.accountant import OLD_GRID, recomputed_epsilon
from phoenix_secure.compliance.catalogue import Answers
from phoenix_secure.compliance.facts import Facts
from phoenix_secure.compliance.sections.images import num_images
from phoenix_secure.evidence import Event
from phoenix_secure.privacy.ceiling import tpr_ceiling
from phoenix_secure.privacy.events import Adjacency, event_from_dict, event_to_dict, merge
from phoenix_secure.privacy.events import Event as PrivacyEvent

__all__ = ["answer_privacy", "planned_events"]

_FPRS = (0.1, 0.01, 0.001)
_DIGITS = 6
_MEANING = (
    (1.0, "below 1: NIST SP 800-226 calls this strong"),
    (10.0, "between 1 and 10: a real bound, weaker with every unit"),
    (float("inf"), "10 or more: may mean no protection in practice (NIST SP 800-226)"),
)


def answer_privacy(answers: Answers) -> None:
    """All of C; every field says "no formal guarantee" or carries unit and delta."""
    facts, guarantee = answers.facts, answers.facts.guarantee
    summary = facts.where("summary.json", "/guarantee")
    config = facts.at(facts.last(Event.CONFIG))
    if not guarantee:
        _answer_none(answers)
        return
    unit, delta = str(guarantee["unit"]), float(guarantee["delta"])
    per_unit = f"per {unit}, delta {delta:g}"
    charged = facts.at(facts.last(Event.PRIVACY))
    names = ("mechanism", "sampler", "noise_multiplier", "clip_norm", "sampling_rate", "steps")
    answers.derived(
        "C1.mechanism",
        {
            **{name: guarantee.get(name) for name in (*names, "releases", "noise_source")},
            **_replaced(facts, delta=delta),
            "events": [event_to_dict(each) for each in merge(planned_events(facts))],
        },
        evidence=(*summary, *config, *charged),
    )
    answers.derived(
        "C2.epsilon",
        guarantee["epsilon"],
        unit=per_unit,
        note=_meaning(float(guarantee["epsilon"])),
        evidence=summary,
    )
    answers.derived(
        "C2.delta",
        delta,
        note="above 1e-5, which is more than usual" if delta > 1e-5 else None,
        evidence=config,
    )
    answers.derived(
        "C2.figures",
        guarantee.get("figures", {}),
        unit=per_unit,
        note="the conversion from Renyi divergence loses something; the others are numerical",
        evidence=summary,
    )
    planned = planned_events(facts)
    if planned:
        answers.derived(
            "C2.recomputed",
            round(recomputed_epsilon(planned, delta=delta, grid=_grid(facts)), _DIGITS),
            unit=per_unit,
            note="from the events in the ledger, by dp-accounting alone",
            evidence=charged,
        )
    else:
        answers.missing("C2.recomputed", "the ledger charges no event: nothing can be recomputed")
    _answer_per_site(answers, delta=delta, unit=per_unit)
    _answer_delta(answers, delta=delta, unit=unit)
    _answer_runs(answers)
    answers.derived(
        "C4.ceilings",
        {
            f"{fpr:g}": round(tpr_ceiling(fpr, epsilon=guarantee["epsilon"], delta=delta), _DIGITS)
            for fpr in _FPRS
        },
        unit="largest true-positive rate at this false-positive rate",
        note=f"for any attack on one {unit}, known or not",
    )
    answers.derived(
        "C5.statement",
        f"({guarantee['epsilon']:.4g}, {delta:g})-differential privacy per {unit} "
        f"({guarantee['adjacency']}){_replaced_text(facts)}; {guarantee['mechanism']}, "
        f"noise multiplier {guarantee['noise_multiplier']:.4g}{_trust_text(facts)}"
        f"{_start_text(facts)}",
        evidence=summary,
    )


def _grid(facts: Facts) -> float | None:
    """The accountant's grid: reports of earlier runs must come out as they did."""
    return None if facts.guarantee.get("replace_one") else OLD_GRID


def _replaced(facts: Facts, *, delta: float) -> dict[str, Any]:
    """The claim for neighbours that replace a record, and the spending of the ledger's events."""
    claimed, planned = facts.guarantee.get("replace_one"), planned_events(facts)
    if not claimed or not planned:
        return {}
    again = recomputed_epsilon(planned, delta=delta, adjacency=Adjacency.REPLACE_ONE)
    return {"replace_one": {**claimed, "recomputed": round(again, _DIGITS)}}


def _replaced_text(facts: Facts) -> str:
    claimed = facts.guarantee.get("replace_one")
    return f", epsilon {claimed['epsilon']:.4g} ({claimed['adjacency']})" if claimed else ""


def _trust_text(facts: Facts) -> str:
    """The assumption under which noise that the sites add together counts."""
    trust = facts.guarantee.get("trust")
    return f"; {trust['text']}" if trust else ""


def _start_text(facts: Facts) -> str:
    """The model that the run went on from, and what was spent on it."""
    start = facts.guarantee.get("start")
    return f"; {start['text']}" if start else ""


def planned_events(facts: Facts) -> list[PrivacyEvent]:
    """The event of one release, as often as the plan allows one site to answer."""
    found = {event for events in facts.charged.values() for event in events}
    releases = facts.guarantee.get("releases")
    most = max((len(events) for events in facts.charged.values()), default=0)
    if not isinstance(releases, int) or isinstance(releases, bool) or not 0 < releases < 1 << 31:
        releases = most
    counted = [event for event in found for _ in range(max(releases, most))]
    return [*_before(facts), *counted] if counted else []


def _before(facts: Facts) -> list[PrivacyEvent]:
    """What runs behind the model that this one started from spent of the same budget."""
    start = facts.guarantee.get("start") or {}
    return [event_from_dict(each) for each in start.get("events", ())]


def spent_by_site(facts: Facts, *, delta: float) -> dict[str, float]:
    """Epsilon of each site: by its own ledger where that can be read, else as it was charged."""
    return {
        site: round(
            recomputed_epsilon(
                [*_before(facts), *facts.spent.get(site, events)], delta=delta, grid=_grid(facts)
            ),
            _DIGITS,
        )
        for site, events in facts.charged.items()
    }


def _answer_per_site(answers: Answers, *, delta: float, unit: str) -> None:
    facts = answers.facts
    spent = spent_by_site(facts, delta=delta)
    value: Any = spent
    if not facts.is_confidential:
        value = {f"site {k}": spent[site] for k, site in enumerate(sorted(spent), start=1)}
    own = len(facts.spent)
    answers.derived(
        "C2.per_site",
        value,
        unit=unit,
        note=f"{own} of {len(spent)} from the sites' own ledgers, the others as charged by the "
        "server; each site's images are its own, so that the largest figure holds for every image",
        evidence=[
            *facts.at(facts.last(Event.PRIVACY)),
            *facts.site_ledgers(),
        ],
    )


def _answer_delta(answers: Answers, *, delta: float, unit: str) -> None:
    counts = {"record": num_images(answers.facts), "site": len(answers.facts.sites)}
    count = counts.get(unit)  # how many persons there are is told by nothing
    warnings = [str(each) for each in answers.facts.guarantee.get("warnings", [])]
    if count is None:
        told = [text for text in warnings if "images^2" in text]
        answers.derived(
            "C2.delta_size",
            {"delta": delta} | ({"sites_whose_images_squared_exceed": True} if told else {}),
            note="the numbers of images did not leave the sites; each one's log compares delta "
            "with its own",
            evidence=answers.facts.where("summary.json", "/guarantee/warnings"),
        )
        return
    answers.derived(
        "C2.delta_size",
        {
            "below 1/n": delta < 1 / count,
            "below 1/n^2": delta < 1 / count**2,
            "at most 1e-5": delta <= 1e-5,
        },
        note=f"n counts every {'image' if unit == 'record' else 'site'} of the run",
    )


def _answer_runs(answers: Answers) -> None:
    plans = answers.facts.plans
    if not plans:
        answers.missing("C3.runs", "only the sites' own privacy ledgers know; ask each of them")
        return
    answers.measured(
        "C3.runs",
        plans if answers.facts.is_confidential else {"most at one site": max(plans.values())},
        unit="runs in a site's privacy ledger",
        note="choosing the best of several runs spends the budget of all of them",
        evidence=answers.facts.site_ledgers(),
    )


def _answer_none(answers: Answers) -> None:
    facts = answers.facts
    text = (facts.summary.guarantee or {}).get("text")
    why = "no formal guarantee: set privacy.unit to get one"
    for id in ("C1.mechanism", "C2.epsilon", "C2.delta", "C2.figures", "C2.recomputed"):
        answers.missing(id, why)
    for id in ("C2.per_site", "C2.delta_size", "C3.runs", "C4.ceilings"):
        answers.missing(id, why)
    answers.derived(
        "C5.statement",
        text or "no formal guarantee: differential privacy is off",
        evidence=facts.at(facts.last(Event.CONFIG)),
    )


def _meaning(epsilon: float) -> str:
    return next(words for limit, words in _MEANING if epsilon < limit)
