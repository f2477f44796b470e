"""Faults between machines, one after another: what ``doctor`` and the site itself say to each."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hosts_ceremony import HOST, RELAY, Ceremony
from hosts_disk import fill, small_disk
from hosts_federation import PORT
from hosts_lines import FAKE_TIME, offset

__all__ = ["FaultRow", "Faults", "names_it"]

OTHER, SITE = "other.example.org", "clinic"
_PATIENCE_S = 90.0


@dataclass(frozen=True, kw_only=True)
class FaultRow:
    """One fault: the finding of ``doctor``, whether it names the fault, the site's own output."""

    fault: str
    doctor: str
    is_named: bool
    site: str


@dataclass(frozen=True)
class _Fault:
    name: str
    words: str  # a regular expression that what names it matches
    apply: Callable[[], contextlib.AbstractContextManager[dict[str, str]]]
    starts: bool = True  # whether the site is started under it, too


def names_it(words: str, findings: list[dict[str, str]]) -> bool:
    """Whether a finding that is not ``ok`` says ``words``."""
    return any(re.search(words, each["message"]) for each in findings if each["level"] != "ok")


class Faults:
    """Faults at one site of a federation whose server runs and whose sites do not."""

    def __init__(self, ceremony: Ceremony, *, only: str = "") -> None:
        self.parties, self.federation = ceremony.parties, ceremony.federation
        self.say = ceremony.steps.say
        self._only = only
        self.rows: list[FaultRow] = []

    def run(self) -> None:
        """Try each fault at one site."""
        for fault in self._faults():
            if self._only in fault.name:
                self._try(fault)

    def _try(self, fault: _Fault) -> None:
        with fault.apply() as variables:
            done = self.parties.type(
                *(SITE, "doctor", "--federation", "site", "--format", "json"), variables=variables
            )
            findings = _findings(done.stdout)
            site = self._start_of_site(fault, variables) if fault.starts else "-"
        told = [f"{each['name']}: {each['message']}" for each in findings if each["level"] != "ok"]
        row = FaultRow(
            fault=fault.name,
            doctor="; ".join(told) or "all ok" if findings else done.stderr.strip()[-400:],
            is_named=names_it(fault.words, findings) or (not told and fault.words == "^all ok$"),
            site=site,
        )
        self.rows.append(row)
        self.say(f"{'named    ' if row.is_named else 'NOT NAMED'} {row.fault}: {row.doctor}")
        self.say(f"          site start: {row.site}")

    def _start_of_site(self, fault: _Fault, variables: dict[str, str]) -> str:
        """What ``site start`` prints until it names the fault, or until our patience ends."""
        made, log = self.federation, self.parties[SITE].root / "site.log"
        log.unlink(missing_ok=True)
        made.start(SITE, variables=variables)
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end and made.running[SITE].poll() is None:
            if re.search(fault.words, made.log(SITE)):
                break
            time.sleep(0.5)
        lines = [line for line in made.log(SITE).splitlines() if re.search(fault.words, line)]
        last = (made.log(SITE).splitlines() or ["nothing"])[-1]
        made.stop(SITE)
        return (lines or [f"({last})"])[0][:300]

    # The faults.

    def _faults(self) -> Iterator[_Fault]:
        drop = f"tcp dport {PORT} drop"
        reject = f"tcp dport {PORT} reject with icmpx type admin-prohibited"
        yield _Fault("none", "^all ok$", contextlib.nullcontext, starts=False)
        yield _Fault("firewall drops the server's port", "firewall drops", self._firewall(drop))
        yield _Fault("firewall rejects it", "no way leads", self._firewall(reject))
        yield _Fault("the site's cable is pulled", "no way leads|firewall drops", self._cable)
        yield _Fault("the server is stopped", "nothing listens", self._stopped_server)
        yield _Fault("name that no DNS knows", "no address is known", self._server("fl.invalid"))
        self.parties.resolve(OTHER, self.parties["server"].v4)
        yield _Fault(
            "host name that is not the certificate's",
            f"certificate is for {HOST}, and not for {OTHER}",
            self._server(OTHER),
        )
        yield _Fault(
            "name known with IPv6 alone, server on IPv4", "set `listen: '::'`", self._only_ipv6
        )
        yield _Fault("another program has the port", "TLS handshake", self._other_program)
        for seconds, what, words in (
            (120, "2 minutes ahead", "clock is 1[12][0-9] s ahead"),
            (-120, "2 minutes behind", "clock is 1[12][0-9] s behind"),
            (-86_400, "a day behind", "not valid yet by this machine's clock"),
        ):
            if FAKE_TIME is not None:
                clock = offset(seconds)
                yield _Fault(f"clock {what}", words, lambda clock=clock: _with(clock))
        yield _Fault("full disk at the site", "make room|disk is full", self._full_disk)

    def _firewall(
        self, rule: str
    ) -> Callable[[], contextlib.AbstractContextManager[dict[str, str]]]:
        @contextlib.contextmanager
        def apply() -> Iterator[dict[str, str]]:
            self.parties.firewall("server", rule)
            try:
                yield {}
            finally:
                self.parties.firewall("server", f"tcp dport {PORT} accept")

        return apply

    @contextlib.contextmanager
    def _cable(self) -> Iterator[dict[str, str]]:
        self.parties.cable(SITE, plugged=False)
        try:
            yield {}
        finally:
            self.parties.cable(SITE, plugged=True)

    @contextlib.contextmanager
    def _stopped_server(self) -> Iterator[dict[str, str]]:
        self.federation.stop("server")
        try:
            yield {}
        finally:
            self.federation.start("server")
            self.federation.wait_for_door()

    def _server(self, host: str) -> Callable[[], contextlib.AbstractContextManager[dict[str, str]]]:
        @contextlib.contextmanager
        def apply() -> Iterator[dict[str, str]]:
            self.federation.change(SITE, server=f"{host}:{PORT}")
            try:
                yield {}
            finally:
                self.federation.change(SITE, server=f"{HOST}:{PORT}")

        return apply

    @contextlib.contextmanager
    def _only_ipv6(self) -> Iterator[dict[str, str]]:
        self.parties.resolve(HOST, self.parties["server"].v6, SITE)
        try:
            yield {}
        finally:
            self.parties.resolve(HOST, self.parties["server"].v4, SITE)

    @contextlib.contextmanager
    def _other_program(self) -> Iterator[dict[str, str]]:
        self.parties.resolve(HOST, self.parties[RELAY].v4, SITE)
        say_hello = (
            f"import socket\nwith socket.create_server(('', {PORT})) as s:\n while True:\n"
            "  with s.accept()[0] as c:\n   c.sendall(b'SSH-2.0-OpenSSH\\r\\n')\n   c.recv(9999)\n"
        )
        program = subprocess.Popen(  # noqa: S603 - fixed code
            self.parties.command(RELAY, [sys.executable, "-c", say_hello])
        )
        try:
            time.sleep(2)
            yield {}
        finally:
            program.kill()
            program.wait()
            self.parties.resolve(HOST, self.parties["server"].v4, SITE)

    @contextlib.contextmanager
    def _full_disk(self) -> Iterator[dict[str, str]]:
        party = self.parties[SITE]
        with small_disk(party, party.root / "site", kept=self.parties.out / "etc" / "kept"):
            fill(party.root / "site")
            yield {}


@contextlib.contextmanager
def _with(variables: dict[str, str]) -> Iterator[dict[str, str]]:
    yield variables


def _findings(text: str) -> list[dict[str, str]]:
    try:
        return list(json.loads(text))
    except ValueError:
        return []
