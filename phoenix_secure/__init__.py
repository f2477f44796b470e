"""Federated diffusion models whose data owners keep their images to themselves.

    import phoenix_secure as ps

    result = ps.run("demo", run_dir="runs/demo")   # or your own images: data=..., privacy: settings
    result.sample(16).save("digits.png")
    result.evaluate().kid
    result.audit(profile="smoke").verdict

Nothing heavy is loaded before the first of these names is used.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from phoenix_secure.own_packages import OwnPackages

__version__ = "0.1.0"

_PLACES = {
    "AuditResult": "api.results",
    "ExtensionPoint": "extensions",
    "PhoenixError": "errors",
    "Quality": "api.results",
    "ReportResult": "api.results",
    "ReportSection": "extensions",
    "RoundReport": "federation.round.report",
    "RunConfig": "config",
    "RunResult": "api.runs",
    "Samples": "api.results",
    "StageReport": "federation.round.report",
    "audit": "api.attacks",
    "evaluate": "api.quality",
    "export_bundle": "api.models",
    "load_config": "config_file",
    "open_run": "api.runs",
    "register": "extensions",
    "report": "api.reports",
    "resume": "api.runs",
    "run": "api.runs",
    "sample": "api.models",
    "sign_report": "api.reports",
    "sweep": "api.sweeps",
    "verify": "api.verification",
}

__all__ = [
    "AuditResult",
    "ExtensionPoint",
    "PhoenixError",
    "Quality",
    "ReportResult",
    "ReportSection",
    "RoundReport",
    "RunConfig",
    "RunResult",
    "Samples",
    "StageReport",
    "__version__",
    "audit",
    "evaluate",
    "export_bundle",
    "load_config",
    "open_run",
    "register",
    "report",
    "resume",
    "run",
    "sample",
    "sign_report",
    "sweep",
    "verify",
]

OwnPackages(Path(__file__).resolve().parents[1]).install()


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
