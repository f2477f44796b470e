"""Rounds over lines that are slow, lossy or IPv6, then with a clock that is off and a full disk.

It is one run, under which the line changes every few rounds.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hosts_ceremony import HOST, RELAY, SITES, Ceremony
from hosts_disk import fill, small_disk
from hosts_federation import PORT
from hosts_namespaces import REPOSITORY

__all__ = ["FAKE_TIME", "LineRow", "Lines", "offset"]

Phase = Callable[[], contextlib.AbstractContextManager[None]]

VICTIM = "clinic"
_ROUNDS = 2  # over each line; the first one may have begun over the line before
_RESUMES = 8
# The library itself: the program `faketime` would start a shell.
FAKE_TIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)


@dataclass(frozen=True, kw_only=True)
class LineRow:
    """The rounds over one kind of line: seconds of each, and how many sites are in each sum."""

    line: str
    rounds: str
    sites: str
    said: str


def offset(seconds: int) -> dict[str, str]:
    """Variables under which a program's clock is off by so much; empty without libfaketime."""
    if FAKE_TIME is None:
        return {}
    return {
        "LD_PRELOAD": str(FAKE_TIME),
        "FAKETIME": f"{seconds:+d}",
        # Waiting goes on as ever: a clock that is off still ticks.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


class Lines:
    """The federation of a ceremony whose server runs and whose sites do not yet."""

    def __init__(self, ceremony: Ceremony, *, only: str = "") -> None:
        self.parties, self.federation = ceremony.parties, ceremony.federation
        self.say = ceremony.steps.say
        self.rows: list[LineRow] = []
        self._only = only

    def run(self) -> None:
        """One plan over all lines, each for ``_ROUNDS`` rounds."""
        made, party = self.federation, self.parties[VICTIM]
        phases = [phase for phase in self._phases() if self._only in phase[0]]
        if not phases:
            return
        # For those who come over IPv6, too.
        made.change("server", listen="::")
        made.stop("server")
        made.start("server")
        made.wait_for_door()
        folder, kept = party.root / "site", self.parties.out / "etc" / "kept"
        with small_disk(party, folder, kept=kept):
            try:
                with self._relayed():
                    for site in SITES:
                        made.start(site)
                    made.wait_online(*SITES)
                    made.write_settings("lines", federation__rounds=_ROUNDS * len(phases))
                    plan, _ = made.propose("lines")
                    made.approve(plan, *SITES)
                self._train(phases)
            finally:
                made.stop(VICTIM)

    def _phases(self) -> list[tuple[str, Phase]]:
        found: list[tuple[str, Phase]] = [
            ("relay without delay", self._relayed),
            ("100 ms each way", partial(self._relayed, "--delay-ms", 100)),
            (
                "100 ms each way, 5 % of segments 200 ms late",
                partial(self._relayed, "--delay-ms", 100, "--stall", 0.05),
            ),
            ("one segment in 300 cuts its connection", partial(self._relayed, "--cut", 1 / 300)),
            ("IPv6 from end to end", partial(self._relayed, is_v6=True)),
        ]
        if FAKE_TIME is not None:
            found.append((f"the clock of {VICTIM} is 2 minutes ahead", self._late))
        found.append((f"the disk of {VICTIM} is full", self._full))
        return found

    def _train(self, phases: list[tuple[str, Phase]]) -> None:
        """Change the line behind every ``_ROUNDS``-th round; a run that stops is resumed."""
        events, number = self._events(_ROUNDS * len(phases)), 0
        for name, phase in phases:
            rounds, sites = [], []
            before = len(self.federation.log(VICTIM))
            with phase():
                while len(rounds) < _ROUNDS:
                    event = next(events)
                    number = event["round_number"]
                    rounds.append(f"{event['seconds']:.1f}")
                    sites.append(str(len(event["sites"])))
            news = self.federation.log(VICTIM)[before:].splitlines()
            said = [line for line in news if "not reached" in line or "disk" in line]
            row = LineRow(
                line=name,
                rounds=" ".join(rounds),
                sites=" ".join(sites),
                said=said[0].partition(" ")[2][:300] if said else "",
            )
            self.rows.append(row)
            self.say(
                f"round {number}: {row.line}: {row.rounds} s over {row.sites} sites {row.said}"
            )

    def _events(self, num_rounds: int) -> Iterator[dict[str, Any]]:
        done = 0
        for _ in range(_RESUMES):
            with contextlib.suppress(RuntimeError):
                for event in self.federation.resume("lines"):
                    if event.get("event") == "round":
                        done = event["round_number"]
                        yield event
            if done == num_rounds:
                return
        raise RuntimeError(f"the run stopped {_RESUMES} times")

    @contextlib.contextmanager
    def _relayed(self, *options: object, is_v6: bool = False) -> Iterator[None]:
        """All sites reach the server through the relay."""
        server, relay = self.parties["server"], self.parties[RELAY]
        address = server.v6 if is_v6 else server.v4
        self.parties.resolve(HOST, relay.v6 if is_v6 else relay.v4, *SITES)
        listen = "::" if is_v6 else "0.0.0.0"  # noqa: S104 - in its own namespace
        where = ("--listen", listen, "--port", PORT)
        target = f"[{address}]:{PORT}" if is_v6 else f"{address}:{PORT}"
        program = REPOSITORY / "benchmarks" / "hosts_relay.py"
        process = subprocess.Popen(  # noqa: S603 - a list of arguments
            self.parties.command(
                RELAY, [sys.executable, str(program), *where, "--to", target, *options]
            ),
            stdout=subprocess.PIPE,
            env=self.parties.environment(RELAY),
        )
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError("the relay did not start")
            yield
        finally:
            process.kill()
            process.wait()
            self.parties.resolve(HOST, server.v4, *SITES)

    @contextlib.contextmanager
    def _late(self) -> Iterator[None]:
        self.federation.stop(VICTIM)
        self.federation.start(VICTIM, variables=offset(120))
        try:
            yield
        finally:
            self.federation.stop(VICTIM)
            self.federation.start(VICTIM)

    @contextlib.contextmanager
    def _full(self) -> Iterator[None]:
        fill(self.parties[VICTIM].root / "site")
        yield
