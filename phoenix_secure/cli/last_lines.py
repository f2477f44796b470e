"""The last lines of a simulation that ends with a report: what to open, what was proven and what
was not, what to try next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from phoenix_secure.cli.output import console
from phoenix_secure.config import RunConfig
from phoenix_secure.federation.run.summary import RunSummary

__all__ = ["closing_lines", "print_closing"]


def print_closing(
    summary: RunSummary, config: RunConfig, *, folder: Path, audited: str | None
) -> None:
    """Print ``closing_lines`` under a rule."""
    console.print()
    for label, text in closing_lines(summary, config, folder=folder, audited=audited):
        console.print(f"{label:<13} {text}", soft_wrap=True, markup=False)


def closing_lines(
    summary: RunSummary, config: RunConfig, *, folder: Path, audited: str | None
) -> Iterator[tuple[str, str]]:
    """(label, sentence) pairs; ``audited`` is the audit's verdict, None where there was none."""
    yield "open", f"{folder / 'samples.png'} and {folder / 'report' / 'report.html'}"
    guarantee = summary.guarantee or {}
    epsilon = guarantee.get("epsilon")
    if summary.secure is not None:
        terms = summary.secure.terms
        rests_on = (
            f", and no site's part, as long as at most {terms.c} of {summary.sites} work with it"
            if terms.assumption is None
            else f"; {terms.assumption}"
        )
        yield "proven", f"the server saw sums over {terms.t} sites or more{rests_on}"
    if epsilon is not None:
        yield "proven", str(guarantee["text"])
    if audited is not None:
        yield "measured", f"attacks on the finished model: {audited}"
    if summary.secure is None:
        yield "not proven", "secure aggregation was off: the server saw every site's update"
    if epsilon is None:
        yield (
            "not proven",
            "no differential privacy: the model itself may give away its training images, whatever "
            "the attacks above found",
        )
    for limit in guarantee.get("not_protected", ()):
        yield "not protected", str(limit)
    yield "not proven", "all sites ran in one process: nothing here tried a network or its owners"
    too_few = audited is None and config.audit.profile != "none"
    yield "next", _next(config, folder, epsilon=epsilon, can_audit=not too_few)
    yield (
        "",
        f"phoenix-secure verify {folder / 'report' / 'report.json'} --roster "
        f"{folder / 'roster.bin'} --evidence {folder}",
    )


def _next(config: RunConfig, folder: Path, *, epsilon: float | None, can_audit: bool) -> str:
    if epsilon is None and not can_audit:
        return "bring more images: no attack could be tried on so few"
    if epsilon is None:
        return f"phoenix-secure audit {folder} --profile fast     # harder attacks on this model"
    asked = config.privacy.epsilon
    if asked is None:
        return f"phoenix-secure sample {folder}"
    return (
        f"phoenix-secure run {folder / 'config.yaml'} privacy.epsilon={asked / 4:g} "
        f"--run-dir {folder}-epsilon-{asked / 4:g}     # a stronger promise, and what it costs"
    )
