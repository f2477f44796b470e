"""A real run of five sites under differential privacy, and an audit result for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers.utils.logging import disable_progress_bar

from built_once import built_once
from phoenix_secure.audit.recording import AuditRecords
from phoenix_secure.audit.report import AuditReport
from phoenix_secure.compliance.output import write_report
from phoenix_secure.compliance.signing import server_identity
from phoenix_secure.config_file import load_config
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.federation.server.run import Run
from phoenix_secure.federation.simulation.simulated_sites import SimulatedSites

SETTINGS = [
    "data.name=digits",
    "partition.scheme=iid",
    "partition.num_sites=5",
    "model.block_channels=[8,8]",
    "model.attention=[false,false]",
    "model.mid_attention=false",
    "diffusion.num_timesteps=50",
    "training.batch_size=8",
    "training.local_steps=2",
    "federation.rounds=2",
    "evaluation.num_images=0",
    "sampling.num_steps=2",
    "output.num_samples=4",
    "output.samples_every_rounds=0",
    "device=cpu",
]
PRIVATE = ["privacy.unit=record", "privacy.noise_multiplier=0.6", "privacy.sampling_rate=0.05"]


def train(path: Path, *changes: str) -> Path:
    """A finished run in ``path``."""
    disable_progress_bar()
    config = load_config(None, [*SETTINGS, *changes])
    federation = Run(SimulatedSites(config, cache_dir=path.parent / "cache"))
    folder = RunFolder(path)
    state = federation.start(folder, overwrite=False)
    for _ in federation.rounds(state, folder):
        pass
    federation.finish(folder)
    shutil.rmtree(path / "checkpoints")
    return path


def _figure(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def audit_result(*, epsilon_lower: float = 0.4, extracted: int = 0) -> bytes:
    """An audit.json as the audit writes it, with figures of a test's choice."""
    attack = {
        "name": "loss",
        "access": "denoiser queries",
        "setting": "t = 200",
        "reversed": False,
        "chosen_on": "150 other images, half of them members",
        "choice_aucs": {"t = 200": 0.51},
        "auc": _figure(0.52, 0.48, 0.56),
        "tpr": [
            {
                "fpr": 0.1,
                "tpr": _figure(0.12, 0.09, 0.16),
                "true_fpr": _figure(0.1, 0.07, 0.13),
                "coarse": False,
                "reason": None,
            },
            {
                "fpr": 0.001,
                "tpr": None,
                "true_fpr": None,
                "coarse": False,
                "reason": "needs 1000 non-members",
            },
        ],
        "curve": [[0.0, 0.0], [0.0025, 0.005], [0.1, 0.12], [0.5, 0.53], [1.0, 1.0]],
        "advantage": _figure(0.03, 0.0, 0.17),
        "p_rank": 0.3,
        "p_low_fpr": 0.5,
        "p_adjusted": 0.6,
        "placebo_auc": 0.5,
        "placebo_band": [0.4, 0.6],
        "placebo_inside": True,
        "excess": None,
        "above_ceiling": False,
        "queries_per_record": 4.0,
        "seconds": 1.0,
    }
    group = {"num_members": 400, "num_others": 400, "sha256": "5" * 64}
    value: dict[str, Any] = {
        "format": "phoenix-secure/audit/v1",
        "edition": "public",
        "verdict": {
            "outcome": "none found at this detectable effect",
            "fail": False,
            "reasons": ["no attack found members"],
            "detectable_auc": 0.57,
            "detectable_tpr": 0.03,
            "false_alarm": "at most 5%",
        },
        "game": ["Unit: one image."],
        "target": {"kind": "run", "duplicates left out": "3"},
        "plan": {
            "format": "phoenix-secure/audit-plan/v1",
            "version": "0.1.0",
            "target_kind": "run",
            "target_sha256": "7" * 64,
            "profile": "smoke",
            "seed": 0,
            "attacks": [{"name": "loss", "access": "denoiser queries", "settings": ["t = 200"]}],
            "fprs": [0.1, 0.001],
            "low_fpr": 0.1,
            "confidence": 0.95,
            "significance": 0.05,
            "max_detectable_auc": 0.6,
            "choice": group,
            "evaluation": group,
            "num_calibration": 100,
            "num_samples": 150,
            "num_shadows": 0,
            "canaries": None,
            "claim": None,
        },
        "plan_sha256": "9" * 64,
        "other_plans": 0,
        "choice_source": "reference images",
        "attacks": [attack],
        "skipped": {},
        "blind": {"auc": _figure(0.5, 0.46, 0.54), "differs": False, "reason": None},
        "loss_of_members": 0.5,
        "loss_of_non_members": 0.5,
        "strata": [
            {
                "kind": "site",
                "group": "site-03",
                "num_members": 37,
                "num_non_members": 400,
                "auc": _figure(0.53, 0.4, 0.66),
                "reason": None,
            }
        ],
        "exposed": [{"index": 41, "p_adjusted": 0.9}],
        "copying": {
            "num_samples": 150,
            "authenticity": 1.0,
            "closer_share": 0.4,
            "closer_p": 0.7,
            "extracted": extracted,
            "extracted_control": 0,
            "extraction_rate_high": 0.02,
        },
        "canaries": {
            "num_canaries": 200,
            "num_included": 101,
            "auc": _figure(0.55, 0.47, 0.63),
            "delta": 1e-5,
            "epsilon_steinke": epsilon_lower,
            "ceiling_steinke": 9.0,
            "epsilon_gaussian": epsilon_lower,
            "ceiling_gaussian": 9.0,
            "claimed_epsilon": None,
            "claim": "no claim",
        },
        "federated": None,
        "seconds": 12.0,
    }
    AuditReport.model_validate(value)  # what a test makes up is at least what an audit may write
    return (json.dumps(value, indent=2) + "\n").encode()


@pytest.fixture(scope="session")
def make_audit() -> Callable[..., bytes]:
    """``audit_result``."""
    return audit_result


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """``train``: a real run of a test's own settings."""
    return train


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with audit and report; never change it: copy it."""
    return built_once(tmp_path_factory, "reported", build_reported) / "run"


def build_reported(folder: Path) -> None:
    run = train(folder / "run", *PRIVATE)
    (run / "audit").mkdir()
    (run / "audit" / "audit.json").write_bytes(audit_result())
    records = AuditRecords.of(RunFolder(run))
    assert records is not None
    records.audited(run / "audit" / "audit.json")
    write_report(run, identity=server_identity(run))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one round without differential privacy; never change it: copy it."""

    def build(folder: Path) -> None:
        train(folder / "run", "federation.rounds=1")

    return built_once(tmp_path_factory, "plain", build) / "run"


@pytest.fixture
def run(reported: Path, tmp_path: Path) -> Path:
    """A copy of ``reported``, free to be damaged."""
    return Path(shutil.copytree(reported, tmp_path / "run"))
