"""Verification of one report, from the pinned key to the last derived field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.compliance.facts import read_rosters
from phoenix_secure.compliance.run_files import RunFiles
from phoenix_secure.compliance.schema import Report
from phoenix_secure.compliance.verification.alone import check_alone, read_report
from phoenix_secure.compliance.verification.beside import (
    check_countersignatures,
    check_time_stamp,
)
from phoenix_secure.compliance.verification.checks import Check, Checks, State
from phoenix_secure.compliance.verification.evidence import check_evidence
from phoenix_secure.errors import ConfigError
from phoenix_secure.evidence import EvidenceError
from protocol import RemoteProtocolError, Roster, RosterChain
from protocol.identity import suite_of_key

__all__ = ["FAIL_EXIT_CODE", "Verification", "load_roster", "parse_key", "verify_report"]

FAIL_EXIT_CODE = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """All checks of a report.

    exit_code   0 all hold; 5 one failed; 6 the report itself says FAIL; 7 not all could be made
    """

    report: Report | None
    checks: tuple[Check, ...]
    exit_code: int

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(each for each in self.checks if each.state is State.FAILED)


def verify_report(
    path: Path,
    *,
    evidence: Path | None = None,
    roster: RosterChain | None = None,
    server_key: bytes | None = None,
    tsa_certificates: bytes | None = None,
    signers: Sequence[bytes] = (),
) -> Verification:
    """Check the report at ``path``; its envelope ``report.dsse.json`` lies beside it.

    evidence     the run's folder
    roster       who takes part, as pinned by the reader: all rosters of the federation; the server
                 of the run's must have signed
    server_key   the same for a reader who pinned one key only
    signers      public keys of those who must have counter-signed
    tsa_certificates   PEM of the time-stamping service that the reader trusts

    Without either the key is taken from the report: it then proves only that one party made both,
    and the verification is incomplete.
    """
    checks = Checks()
    try:
        report = read_report(path)
    except EvidenceError as error:
        checks.failed("report.json", str(error))
        return _done(None, checks)
    checks.holds("report.json", "canonical, and of a known schema")
    key = server_key
    with checks.catching("keys"):
        keys = report.value("D3.keys")
        if roster is not None:
            named = roster.named(bytes.fromhex(str(keys["roster"])))
            key = (named or roster.current).server_key
            _check_pinned(named, roster, checks)
        if key is None:
            key = bytes.fromhex(keys["server key"])
            checks.not_made("pinned key", f"compare {key.hex()} with the one that you were told")
        else:
            checks.require(
                "pinned key",
                keys["server key"] == key.hex(),
                "the report names another server key than the pinned one",
            )
    if key is None:
        return _done(report, checks)
    check_alone(report, path, key=key, checks=checks)
    check_time_stamp(report, path, certificates=tsa_certificates, checks=checks)
    check_countersignatures(path, signers=signers, checks=checks)
    if evidence is None:
        checks.not_made("evidence", "name the run's folder with --evidence")
    else:
        try:
            known = roster or read_rosters(RunFiles(evidence))
        except EvidenceError as error:
            checks.failed("roster", str(error))
            known = None
        check_evidence(report, evidence, key=key, rosters=known, checks=checks)
    return _done(report, checks)


def _check_pinned(named: Roster | None, pinned: RosterChain, checks: Checks) -> None:
    """The report's roster is one of the pinned ones; the reader hears what happened since."""
    if named is None:
        checks.failed("pinned roster", "the report names another roster than the pinned one")
        return
    said = f"epoch {named.epoch} of {pinned.current.epoch}"
    if named.server_key in pinned.retired:
        # A signature does not say when it was made.
        said += "; the server's key was replaced since: trust the time of this report elsewhere"
    checks.holds("pinned roster", "" if pinned.current == named else said)


def load_roster(path: Path, *, owner_key: bytes | None) -> RosterChain:
    """The rosters in a file, signed by the owner; by default by the owner's key beside it.

    Raises:     ConfigError.
    """
    try:
        key = _key_beside(path) if owner_key is None else owner_key
        return RosterChain.load(path.read_bytes(), owner_key=key)
    except OSError as error:
        raise ConfigError(
            f"cannot read {error.filename} ({error.strerror}): name the roster with --roster and "
            "its owner's key with --owner-key"
        ) from error
    except RemoteProtocolError as error:
        raise ConfigError(f"{path} is not a roster that this owner's key signed") from error


def parse_key(content: bytes) -> bytes:
    """A public key, raw or as hexadecimal digits: 32 bytes, or 1984 of a hybrid federation.

    Raises:     ValueError for anything else.
    """
    if suite_of_key(content) is not None:
        return content
    key = bytes.fromhex(content.decode("ascii").strip())
    if suite_of_key(key) is None:
        raise ValueError("expected a public key")
    return key


def _key_beside(path: Path) -> bytes:
    """The owner's key, under the name that a simulation or a federation folder gives it."""
    names = ("owner.key.pub", "federation-owner.pub")
    found = next((path.parent / name for name in names if (path.parent / name).exists()), None)
    if found is None:
        raise ConfigError(
            f"no owner.key.pub lies beside {path}: name the owner's key with --owner-key"
        )
    try:
        return parse_key(found.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{found} holds no public key: restore it") from error


def _done(report: Report | None, checks: Checks) -> Verification:
    code = checks.exit_code
    if code in (0, 7) and report is not None and report.headline.failures:
        code = FAIL_EXIT_CODE
    return Verification(report=report, checks=tuple(checks.found), exit_code=code)
