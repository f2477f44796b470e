"""The last lines of a demo say what was proven and what was not, from the run's own summary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from phoenix_secure.cli.last_lines import closing_lines
from phoenix_secure.config_file import load_config
from phoenix_secure.federation.round.report import TermsRecord
from phoenix_secure.federation.round.sparse_graph import SparseGraph
from phoenix_secure.federation.run.summary import RunSummary, SecureSummary
from phoenix_secure.privacy.guarantee import NO_GUARANTEE, Guarantee

TERMS = TermsRecord(
    n=5,
    t=4,
    c=1,
    word_bits=32,
    scale=1.0,
    clip_norm=1.0,
    clip_value=1.0,
    max_images=1,
    noise_variance_of_a_site=0.0,
)


def lines_of(
    guarantee: Guarantee, *, secure: bool, settings: str, terms: TermsRecord = TERMS
) -> dict[str, list[str]]:
    summary = RunSummary.of_rounds(
        [], num_rounds=1, num_sites=5, num_parameters=1, terms=terms if secure else None
    )
    summary = RunSummary.from_dict(summary.to_dict() | {"guarantee": guarantee.to_dict()})
    found: dict[str, list[str]] = {}
    config = load_config(settings)
    for label, text in closing_lines(summary, config, folder=Path("runs/x"), audited="no leak"):
        found.setdefault(label, []).append(text)
    assert isinstance(summary.secure, SecureSummary) is secure
    return found


def test_a_private_run_states_its_guarantee_and_what_it_leaves_out() -> None:
    guarantee = Guarantee(unit="record", epsilon=8.0, delta=3e-5, noise_multiplier=0.5)
    lines = lines_of(guarantee, secure=True, settings="demo")

    assert guarantee.text in lines["proven"]
    assert any("at most 1 of 5 work with it" in text for text in lines["proven"])
    assert any("one person with several images" in text for text in lines["not protected"])
    assert "privacy.epsilon=2 " in lines["next"][0]
    assert "runs/x/samples.png" in lines["open"][0]


def test_the_weaker_graph_is_named_beside_what_it_proves() -> None:
    graph = SparseGraph(degree=102, threshold=74, log2_insecure=-86.0, log2_failure=None)
    terms = replace(TERMS, n=500, t=450, c=50, graph=graph)
    lines = lines_of(NO_GUARANTEE, secure=True, settings="demo_plain", terms=terms)

    assert lines["proven"][0].startswith(
        "the server saw sums over 450 sites or more; a WEAKER graph: each site shares masks with "
        "102 of 499 others"
    )


def test_without_privacy_nothing_about_images_is_proven() -> None:
    lines = lines_of(NO_GUARANTEE, secure=True, settings="demo_plain")

    assert len(lines["proven"]) == 1
    assert any("no differential privacy" in text for text in lines["not proven"])
    assert "audit runs/x" in lines["next"][0]


def test_in_plaintext_nothing_is_proven() -> None:
    lines = lines_of(NO_GUARANTEE, secure=False, settings="demo_plain")

    assert "proven" not in lines
    assert any("secure aggregation was off" in text for text in lines["not proven"])
