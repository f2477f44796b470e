"""Fifty rounds over Flower and TLS in which three of five sites come and go."""

from __future__ import annotations

import logging
import threading
from collections import Counter

import pytest

from phoenix_secure.federation.round.report import RoundReport, StageReport
from phoenix_secure.federation.run.folder import RunFolder

log = logging.getLogger(__name__)
ROUNDS = 50
PATIENT = (
    f"federation.rounds={ROUNDS}",
    "secure_aggregation.grace_s=2",
    "secure_aggregation.training_grace_s=2",
    "secure_aggregation.max_attempts=6",
)
SHORT_S = 6.0


class ComingAndGoing:
    """site-03 is paused for a round or two; site-04 is killed, and away for long; site-05 is paused
    for a round or two, and paused or killed in the middle of rounds, at times while another one is
    away, which a sum cannot bear.
    """

    def __init__(self, network) -> None:
        self.network = network
        self.away: dict[str, int] = {}  # until the end of which round
        self.timers: list[threading.Timer] = []

    def round_ended(self, number: int) -> None:
        for site in [site for site, until in self.away.items() if number >= until]:
            del self.away[site]
            if site == "site-04":
                self.network.start(site)
                self.network.wait_started(site)
            else:
                self.network.unpause(site)
        if number % 6 == 1 and not self.away:
            self.away["site-03"] = number + 1 + number % 2
            self.network.pause("site-03")
        if number % 16 == 9 and not self.away:
            self.away["site-04"] = number + 5  # longer than sums are kept
            self.network.kill("site-04")
        if number in (22, 35, 47) and not self.away:
            self.away["site-05"] = number + 1
            self.network.pause("site-05")

    def stage_ended(self, report: StageReport) -> None:
        middle = {4: "announce", 11: "share", 18: "mask", 25: "check", 32: "unmask"}
        if middle.get(report.training_round) == report.stage and report.attempt == 1:
            self.network.pause("site-05")
            timer = threading.Timer(SHORT_S, self.network.unpause, ["site-05"])
            timer.start()
            self.timers.append(timer)
        if (report.training_round, report.stage, report.attempt) == (38, "share", 1):
            self.network.kill("site-05")
            self.network.start("site-05")

    def close(self) -> None:
        for timer in self.timers:
            timer.join()


@pytest.mark.slow
def test_fifty_rounds_with_three_of_five_sites_away_now_and_then(network, tmp_path) -> None:
    job = network.job("seed=50", *PATIENT)
    folder = RunFolder(tmp_path / "run")
    faults, missed, last = ComingAndGoing(network), Counter(), {}
    try:
        for event in job.events(job.start(folder, overwrite=False), folder):
            if isinstance(event, StageReport):
                faults.stage_ended(event)
                continue
            if not isinstance(event, RoundReport):
                continue
            assert len(event.sites) >= 4
            log.info("%s %s", event.round_number, event.failures)
            missed.update(set(network.sites) - set(event.sites))
            last |= dict.fromkeys(event.sites, event.round_number)
            faults.round_ended(event.round_number)
    finally:
        faults.close()
    assert folder.load_state(config=job.config).round_number == ROUNDS
    assert job.finish(folder).skipped_rounds == ()
    # On a busy machine the others may come late, too.
    assert missed["site-05"] >= 2
    assert all(missed[site] > 4 for site in ("site-03", "site-04"))
    # Each is back in the sums, with the model that it did not see being made.
    assert min(last.values()) > ROUNDS - 6, last
