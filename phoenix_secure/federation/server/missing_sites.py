"""Sites that are missing from a secure round: who, why, and whether a sum can do without them."""

from __future__ import annotations

from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.round.epoch import RoundEpoch
from phoenix_secure.federation.round.report import StageReport

__all__ = ["dropouts_of", "failures_of", "listed", "require_enough"]


def require_enough(
    epoch: RoundEpoch, *, threshold: int, round_number: int, needed: tuple[str, ...]
) -> None:
    """Refuse a round for which the roster in force leaves too few sites.

    needed   those that were to sign the round before: no other ones ever sign it

    Raises:     TrainingError that says what to do.
    """
    removed, num_sites = epoch.removed, len(epoch.roster.members)
    why = "; ".join(f"{site} {reason}" for site, reason in sorted(removed.items()))
    left = num_sites - len(removed)
    if left < threshold:
        raise TrainingError(
            f"round {round_number}: {left} of {num_sites} sites are left in the roster, and a sum "
            f"needs {threshold} ({why}): resume a suspended site, or propose a new plan over the "
            "sites that there are"
        )
    if any(site in removed for site in needed):
        raise TrainingError(
            f"round {round_number}: sites may have signed a sum over {', '.join(needed)}, and no "
            f"other one is signed for this round ({why}): resume with --skip-round"
        )


def listed(failures: dict[str, str]) -> str:
    """Sites and codes on one line."""
    return ", ".join(f"{site}: {code}" for site, code in failures.items())


def dropouts_of(reports: list[StageReport], *, attempt: int) -> dict[str, dict[str, str]]:
    """Who was missing in which stage of the attempt that succeeded."""
    return {
        report.stage: report.failures
        for report in reports
        if report.attempt == attempt and report.failures and report.stage != "result"
    }


def failures_of(
    dropouts: dict[str, dict[str, str]], *, cohort: tuple[str, ...], survivors: tuple[str, ...]
) -> dict[str, str]:
    """Sites of the cohort that are not in the sum, each with a code."""
    found = {
        site: code
        for missing in dropouts.values()
        for site, code in missing.items()
        if site not in survivors
    }
    away = set(cohort) - set(survivors) - found.keys()
    return found | dict.fromkeys(sorted(away), "left out of this attempt")
