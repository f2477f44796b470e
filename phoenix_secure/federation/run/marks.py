"""How the pictures of a run are marked as synthetic."""

from __future__ import annotations

import json
from pathlib import Path

from phoenix_secure.config import RunConfig
from phoenix_secure.evidence.ledger import read_ledger
from phoenix_secure.federation.run.evidence import ledger_file
from phoenix_secure.federation.run.folder import RunFolder
from phoenix_secure.marks.marker import Marker
from phoenix_secure.marks.origin import Origin, model_digest
from phoenix_secure.marks.signer import MarkSigner
from phoenix_secure.pictures import Encode, plain_png

__all__ = ["encoder_of", "origin_of", "own_encoder", "signer_folder"]


def signer_folder(folder: RunFolder) -> Path:
    """Where the run's key for marks lies."""
    return folder.path / "server"


def own_encoder(folder: RunFolder, config: RunConfig, *, run: str, guarantee: str = "") -> Encode:
    """For the run itself, whose ledger is called ``run``: signed by its own key, which is made at
    first use.

    guarantee   in one line; with it goes the exported model, which is there by then
    """
    if config.output.unmarked_reason is not None:
        return plain_png
    origin = Origin(
        model=model_digest(folder.model) if guarantee else "", run=run, guarantee=guarantee
    )
    signer = MarkSigner.of_run(signer_folder(folder), name=f"run {run[:32]}")
    return Marker(origin, signer=signer)


def encoder_of(folder: RunFolder) -> Encode:
    """For whoever samples a finished run: signed by the run's key where it is at hand."""
    config = folder.load_config()
    if config.output.unmarked_reason is not None:
        return plain_png
    try:
        signer = MarkSigner.kept(signer_folder(folder))
    except OSError:  # another user's
        signer = None
    return Marker(origin_of(folder), signer=signer)


def origin_of(folder: RunFolder) -> Origin:
    """The model of a finished run, its ledger and its guarantee."""
    ledger, summary = ledger_file(folder.path), folder.path / "summary.json"
    said = json.loads(summary.read_text(encoding="utf-8")) if summary.exists() else {}
    return Origin(
        model=model_digest(folder.model),
        run=read_ledger(ledger).id if ledger.exists() else "",
        guarantee=str((said.get("guarantee") or {}).get("text", "")),
    )
