"""D: who sees what, whom one must trust, keys, components."""

from __future__ import annotations

from typing import Any

from phoenix_secure.compliance.catalogue import Answers
from phoenix_secure.compliance.facts import Facts
from phoenix_secure.compliance.run_files import ROSTERS
from phoenix_secure.compliance.vulnerabilities import (
    VULNERABILITIES,
    parse_vulnerabilities,
    pypi_packages,
)
from phoenix_secure.evidence import Entry, Event
from phoenix_secure.evidence.dsse import key_id

__all__ = ["ARTEFACTS", "answer_trust", "trust_table"]

ARTEFACTS = (
    "raw images",
    "one site's update",
    "sum of a round",
    "global weights",
    "losses and counts",
    "samples",
    "who took part, and when",
)


def answer_trust(answers: Answers) -> None:
    """The table follows from the settings alone; rounds and keys are read from the evidence."""
    facts = answers.facts
    config = facts.at(facts.last(Event.CONFIG))
    answers.derived("D1.trust", trust_table(facts.settings), evidence=config)
    trusted = facts.guarantee.get("trusted")
    if trusted:
        answers.derived(
            "D1.trusted", trusted, evidence=facts.where("summary.json", "/guarantee/trusted")
        )
    else:
        answers.derived(
            "D1.trusted",
            {"everybody who holds the model": "not to attack it: nothing bounds what it remembers"},
            evidence=config,
        )
    _answer_secure_aggregation(answers)
    _answer_keys(answers)
    answers.declared("D3.key_handling", "/security/key_handling")
    answers.declared("D3.transport", "/security/transport")
    answers.derived(
        "D4.randomness",
        {
            "noise of differential privacy": facts.guarantee.get("noise_source") or "none",
            "masks and keys": "operating system, AES-256-CTR",
            "training": f"seeded ({facts.settings.get('seed')})",
        },
        evidence=config,
    )
    answers.declared("D4.access_control", "/security/access_control")
    answers.derived(
        "D4.side_channels",
        [
            "how long a site computes and when it fails are visible to the server",
            "noise is drawn as integers or from a secret stream, but gradients are floating point",
            "settings chosen after looking at several runs are counted only in each site's ledger",
        ],
    )
    answers.measured("D5.components", facts.versions, evidence=facts.where("versions.json"))
    answers.declared("D5.vulnerabilities", "/security/vulnerabilities")
    if facts.files.has(VULNERABILITIES):
        answers.handed_in(
            "D5.known_vulnerabilities",
            parse_vulnerabilities(
                facts.files.content(VULNERABILITIES),
                name=str(facts.files.root / VULNERABILITIES),
                packages=pypi_packages(facts.versions),
            ),
            note="by a list that was handed in: nothing here checks that it is complete or "
            "current. Python itself, and packages that the run did not record, are not looked up",
            evidence=facts.where(VULNERABILITIES),
        )


def trust_table(settings: dict[str, Any]) -> dict[str, dict[str, str]]:
    """actor -> artefact -> what it sees of it: "yes", "no", or which part."""
    privacy, sharing = settings.get("privacy", {}), settings.get("sharing", {})
    is_summed = settings.get("secure_aggregation", {}).get("mode") == "on"
    unit = privacy.get("unit", "none")
    is_shared = unit == "site" or privacy.get("trust") == "sum"
    whose = "all sites" if is_shared else "each site"
    noised = None if unit == "none" else f"with noise of {whose}"
    update = (
        "no (masked)" if is_summed else (noised if unit in ("record", "group") else None) or "yes"
    )
    total = noised or "yes"
    hides = unit != "none" and not privacy.get("release_metrics", False)
    # Weights before and after a round differ by its sum: whoever gets both can work it out.
    deduced = f"{noised}, from the weights" if noised else "from the weights"
    counts = "no" if hides else ("sums over a round" if is_summed else "of each site")
    weights = f"yes ({noised})" if noised else "yes"
    shared = "the shared images" if sharing.get("source") not in (None, "none") else "no"
    rows = {
        "a site, of itself": ("yes", "yes", deduced, weights, "yes", "yes", "yes"),
        "another site": (
            shared,
            "no",
            deduced,
            weights,
            "no",
            "yes",
            "its cohort" if is_summed else "no",
        ),
        "the server": (shared, update, total, weights, counts, "yes", "yes"),
        "the server with c dishonest sites": (
            "those sites' own",
            "those sites' own" if is_summed else update,
            "of the honest sites together" if is_summed else total,
            weights,
            counts,
            "yes",
            "yes",
        ),
        "a reader of the model": ("no", "no", "no", weights, "no", "yes", "no"),
        "a reader of this report (public)": ("no", "no", "no", "hash", "bands", "a few", "numbers"),
    }
    return {actor: dict(zip(ARTEFACTS, cells, strict=True)) for actor, cells in rows.items()}


def _answer_secure_aggregation(answers: Answers) -> None:
    facts = answers.facts
    section = facts.settings.get("secure_aggregation", {})
    secure = facts.summary.secure
    terms = None if secure is None else secure.terms
    if section.get("mode") != "on":
        answers.derived(
            "D2.secure_aggregation",
            {"mode": "off"},
            note="the server saw every site's update",
            evidence=facts.at(facts.last(Event.CONFIG)),
        )
        answers.missing("D2.rounds", "secure aggregation was off")
        return
    answers.derived(
        "D2.secure_aggregation",
        {
            "mode": "on",
            "protocol": "double masking with a consistency round (Bonawitz et al. 2017, malicious "
            "server)"
            if terms is None or terms.graph is None
            else f"double masking with a consistency round on a {terms.graph.degree}-regular graph "
            "(Bell et al. 2020, semi-malicious server)",
            "cohort (n)": terms and terms.n,
            "threshold (t)": terms and terms.t,
            "sites that may collude with the server (c)": None
            if secure is None
            else secure.terms.c,
            "primitives": "Ed25519, X25519, HKDF-SHA256, AES-256-CTR, AES-256-GCM, Shamir",
            "word_bits": section.get("word_bits"),
            # Left out where there is none: a report made before has the same bytes.
            **({"assumption": terms.assumption} if terms and terms.assumption else {}),
        },
        evidence=facts.where("summary.json", "/secure"),
    )
    summed = [each for each in facts.ledger.of(Event.AGGREGATED) if each.facts.get("secure")]
    if not summed:
        answers.missing("D2.rounds", "the ledger holds no secure sum")
        return
    survivors = [int(each.facts["survivors"]) for each in summed]
    excluded = facts.ledger.of(Event.EXCLUDED)
    # Left out where nobody is: a report made before there was such an entry has the same bytes.
    sites = {"excluded sites": [_exclusion(facts, each) for each in excluded]} if excluded else {}
    answers.measured(
        "D2.rounds",
        {
            "sums": len(summed),
            "fewest sites in a sum": min(survivors),
            "rounds that needed another attempt": sum(
                int(each.facts["attempts"]) > 1 for each in summed
            ),
            "rounds without a sum": len(facts.ledger.of(Event.FAILED)),
            "transcript of the last round": summed[-1].facts["transcript"],
            **sites,
        },
        evidence=facts.at(summed[-1]),
    )


def _exclusion(facts: Facts, entry: Entry) -> str:
    """One readable line; only a confidential report names the site."""
    said = entry.facts
    who = said["site"] if facts.is_confidential else "a site"
    return f"{who}: {said['reason']} (round {said['round']}, proof {said['proof'][:16]})"


def _answer_keys(answers: Answers) -> None:
    facts: Facts = answers.facts
    value: dict[str, Any] = {
        "algorithm": "Ed25519",
        "server key": facts.ledger.server_key.hex(),
        "server key id": key_id(facts.ledger.server_key),
    }
    evidence = facts.at(facts.ledger.entries[0])
    if facts.roster is not None:
        value["roster"] = facts.roster.hash.hex()
        value["owner key"] = facts.roster.owner_key.hex()
        value["sites"] = (
            {site: key.hex() for site, key in facts.roster.members}
            if facts.is_confidential
            else len(facts.roster.members)
        )
        evidence += facts.where("roster.bin")
    else:
        value["roster"] = facts.planned_roster
    epochs = facts.ledger.of(Event.ROSTER)
    if len(epochs) > 1:
        # Left out where there is one: a report made before there were epochs has the same bytes.
        value["roster epochs"] = [_roster_epoch(facts, each) for each in epochs]
        evidence += facts.at(epochs[-1]) + facts.where(ROSTERS)
    answers.measured("D3.keys", value, evidence=evidence)


def _roster_epoch(facts: Facts, entry: Entry) -> str:
    """One readable line; only a confidential report names sites and reasons."""
    said = []
    for change in entry.facts.get("changes", ()):
        who, reason = "a site", ""
        if facts.is_confidential:
            who = f"site {change['party']}"
            reason = f" ({change['reason']})" if change["reason"] else ""
        said.append(f"{who} {change['kind']} by the owner{reason}")
    what = f": {', '.join(said)}" if said else ""
    return f"{entry.facts.get('epoch', 1)} (round {entry.facts.get('round', 0)}{what})"
