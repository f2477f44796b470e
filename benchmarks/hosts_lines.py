"""Runs between machines over lines that are slow, lossy or IPv6, and with a clock that is off."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hosts_ceremony import HOST, SITES, Ceremony
from hosts_disk import fill, small_disk
from hosts_federation import PORT
from hosts_namespaces import REPOSITORY

__all__ = ["FAKE_TIME", "RELAY", "LineRow", "Lines", "offset"]

RELAY, VICTIM = "relay", "clinic"
_LINES: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("relay without delay", ()),
    ("100 ms each way", ("--delay-ms", 100)),
    (
        "100 ms each way, 5 % of segments 200 ms late",
        ("--delay-ms", 100, "--stall", 0.05),
    ),
    ("one segment in 300 cuts its connection", ("--cut", 1 / 300)),
    ("IPv6 from end to end", ()),
)
# The library itself: the program `faketime` would start a shell.
FAKE_TIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)


@dataclass(frozen=True, kw_only=True)
class LineRow:
    """A run of three rounds over one kind of line."""

    line: str
    seconds: float
    rounds: str
    sites: str


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
        """A run over each line, through the relay, then those with a fault at one site."""
        made, names = self.federation, self.parties
        made.change("server", listen="::")
        made.stop("server")
        made.start("server")
        made.wait_for_door()
        server, ways = names["server"], names[RELAY]
        for number, (name, options) in enumerate(_LINES):
            if self._only not in name:
                continue
            is_v6 = name.startswith("IPv6")
            names.resolve(HOST, ways.v6 if is_v6 else ways.v4, *SITES)
            with self._relay(server.v6 if is_v6 else server.v4, options):
                self._start_sites()
                self._round(name, number)
        names.resolve(HOST, server.v4, *SITES)
        late, full = f"the clock of {VICTIM} is 2 minutes ahead", f"the disk of {VICTIM} fills up"
        if FAKE_TIME is not None and self._only in late:
            self._start_sites()
            made.stop(VICTIM)
            made.start(VICTIM, variables=offset(120))
            self._round(late, len(_LINES))
        if self._only in full:
            self._start_sites()
            self._full_disk(full, len(_LINES) + 1)

    def _start_sites(self) -> None:
        away = [site for site in SITES if site not in self.federation.running]
        for site in away:
            (self.parties[site].root / "site" / "logs" / "supernode.node").unlink(missing_ok=True)
            self.federation.start(site)
        self.federation.wait_online(*away)

    def _full_disk(self, name: str, number: int) -> None:
        """One of five has no room left once its owner has approved."""
        made, party = self.federation, self.parties[VICTIM]
        folder = party.root / "site"
        made.stop(VICTIM)
        with small_disk(party, folder, kept=self.parties.out / "etc" / "kept"):
            try:
                self._start_sites()
                self._round(name, number, before=lambda: fill(folder))
            finally:
                made.stop(VICTIM)

    @contextlib.contextmanager
    def _relay(self, address: str, options: tuple[object, ...]) -> Iterator[None]:
        target = f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}"
        listen = "::" if ":" in address else "0.0.0.0"  # noqa: S104 - in its own namespace
        program = REPOSITORY / "benchmarks" / "hosts_relay.py"
        arguments = ("--listen", listen, "--port", PORT, "--to", target, *options)
        relay = subprocess.Popen(  # noqa: S603 - a list of arguments
            self.parties.command(RELAY, [sys.executable, str(program), *arguments]),
            stdout=subprocess.PIPE,
            env=self.parties.environment(RELAY),
        )
        try:
            assert relay.stdout is not None
            if not relay.stdout.readline():
                raise RuntimeError("the relay did not start")
            yield
        finally:
            relay.kill()
            relay.wait()

    def _round(
        self, name: str, number: int, *, before: Callable[[], object] = lambda: None
    ) -> None:
        """A run of three rounds; its plan differs in the seed alone."""
        made, run = self.federation, f"line-{number}"
        made.write_settings(run, seed=100 + number)
        started = time.monotonic()
        plan, _ = made.propose(run)
        made.approve(plan, *made.offered(plan, *SITES))
        before()
        rounds, sites = [], []
        with contextlib.suppress(RuntimeError):
            for event in made.resume(run):
                if event.get("event") == "round":
                    rounds.append(f"{event['seconds']:.1f}")
                    sites.append(str(len(event["sites"])))
        row = LineRow(
            line=name,
            seconds=round(time.monotonic() - started, 1),
            rounds=" ".join(rounds) or "none",
            sites=" ".join(sites) or "none",
        )
        self.rows.append(row)
        self.say(
            f"{row.seconds:7.1f} s  {row.line}: rounds of {row.rounds} s over {row.sites} sites"
        )
