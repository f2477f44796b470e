"""Answers kept for a repetition: noise of one plan in another, and words without noise.

Until 0.1.0 one file held the newest answer of all plans, and was read for any round and model that
it fitted. A second approved plan with the same start got the first one's noise in its first round,
under the first one's ledger entry: nothing was charged, and the difference of the two plans' sums
held no noise of the site. The file held its rounded update beside the noise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from phoenix_secure.federation.secagg.payload import Payload
from phoenix_secure.federation.secagg.privacy_plan import plan_privacy
from phoenix_secure.federation.site.kept_answers import KeptAnswers
from phoenix_secure.federation.site.releases import Releases
from phoenix_secure.privacy.ledger import PrivacyLedger

SETTINGS = (
    "privacy.unit=site",
    "privacy.noise_multiplier=0.5",
    "secure_aggregation.word_bits=32",
    "training.local_steps=4",
)
SITE = "site-03"


def run(secure_parties, path: Path, plan: str, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """One round under ``plan``; what ``SITE``, whose folder is ``path``, entered in it."""
    parties = secure_parties.Parties(path / plan, *SETTINGS, num_parameters=300)
    private = plan_privacy(parties.config, terms=parties.terms)
    assert private is not None
    secure = parties.sites[SITE].secure
    secure._releases = Releases(
        PrivacyLedger.open(path / "privacy.jsonl"),
        kept=KeptAnswers(path, plan=plan),
        run=plan,
        plan=private,
        data="the same images",
    )
    entered: list[Payload] = []
    make = secure._payload

    def payload(*arguments) -> Payload:
        entered.append(make(*arguments))
        return entered[-1]

    monkeypatch.setattr(secure, "_payload", payload)
    parties.sum()
    return entered[0].words + entered[0].noise


def test_noise_is_drawn_and_charged_for_each_plan(
    secure_parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (run(secure_parties, tmp_path, plan, monkeypatch) for plan in ("a", "b"))
    assert (first != second).mean() > 0.9
    ledger = PrivacyLedger(tmp_path / "privacy.jsonl")
    assert [each.plan for each in ledger.releases()] == ["a", "b"]


def test_a_kept_answer_holds_no_words_without_their_noise(
    secure_parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = run(secure_parties, tmp_path, "a", monkeypatch)
    words = secure_parties.Parties(tmp_path / "oracle", *SETTINGS, num_parameters=300)
    clean = words.sites[SITE].payload(1, words.zeros()).words
    assert np.abs(entered - clean).max() > 10
    content = (tmp_path / "releases" / "a.bin").read_bytes()
    for dtype in (np.int32, np.int64):
        assert entered.astype(dtype)[:8].tobytes() in content or dtype is np.int32
        assert clean.astype(dtype)[:8].tobytes() not in content
