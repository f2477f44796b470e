"""A time stamp and counter-signatures beside a report: checked, tampered with, built again."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import phoenix
from phoenix_secure.api.reports import report, sign_report
from phoenix_secure.compliance.countersignature import countersignatures_of
from phoenix_secure.compliance.output import write_report
from phoenix_secure.compliance.signing import server_identity
from phoenix_secure.compliance.verification.verify import Verification, load_roster, verify_report
from phoenix_secure.errors import CheckpointError, ConfigError, StorageError
from phoenix_secure.evidence import EvidenceError
from phoenix_secure.evidence.canonical import canonical
from protocol import Identity
from time_stamping import TimeStampingService, served

OFFICER = Identity.generate("officer")


@pytest.fixture
def signed(run: Path, tmp_path: Path) -> Path:
    """The report of ``run``, signed by ``OFFICER``."""
    key = tmp_path / "officer.key"
    key.write_bytes(OFFICER.export_seed())
    key.chmod(0o600)
    path = run / "report" / "report.json"
    sign_report(path, key=key, role="data-protection officer", statement="no objection")
    return path


def check(path: Path, *, signers: tuple[bytes, ...] = (OFFICER.public_key,)) -> Verification:
    run = path.parents[1]
    roster = load_roster(run / "roster.bin", owner_key=None)
    return verify_report(path, evidence=run, roster=roster, signers=signers)


def failures(found: Verification) -> str:
    assert found.exit_code == 5
    return "; ".join(f"{each.name}: {each.detail}" for each in found.failed)


def test_a_pinned_signer_s_words_are_shown_and_hold(signed: Path) -> None:
    found = check(signed)
    assert found.exit_code == 0, found.failed
    said = [each.detail for each in found.checks if each.name.startswith("counter-signature")]
    assert said == ["data-protection officer: no objection"]


def test_signing_changes_no_file_of_the_report(reported: Path, signed: Path) -> None:
    before = {path.name: path.read_bytes() for path in (reported / "report").iterdir()}
    after = {path.name: path.read_bytes() for path in signed.parent.iterdir()}
    (added,) = set(after) - set(before)
    assert added == countersignatures_of(signed)[0].name
    assert {name: after[name] for name in before} == before


def test_a_signer_that_nobody_pinned_is_not_counted(signed: Path) -> None:
    found = check(signed, signers=())
    assert found.exit_code == 7
    assert any("--signer" in each.detail for each in found.checks)


def test_a_pinned_signer_who_did_not_sign_is_a_failure(signed: Path) -> None:
    other = Identity.generate("other").public_key
    assert "did not sign" in failures(check(signed, signers=(OFFICER.public_key, other)))
    countersignatures_of(signed)[0].unlink()
    assert "did not sign" in failures(check(signed))


def test_no_changed_byte_of_a_counter_signature_goes_unseen(signed: Path) -> None:
    path = countersignatures_of(signed)[0]
    content = path.read_bytes()
    for at in range(0, len(content), 17):
        changed = bytearray(content)
        changed[at] ^= 1
        path.write_bytes(bytes(changed))
        assert path.name in failures(verify_report(signed, signers=(OFFICER.public_key,)))


def test_a_signature_of_another_key_under_this_name_does_not_hold(
    signed: Path, tmp_path: Path
) -> None:
    path = countersignatures_of(signed)[0]
    stranger = sign_report(signed, key=tmp_path / "stranger.key", new_key=True)
    shutil.move(stranger.path, path)
    assert "another key" in failures(check(signed))
    forged = json.loads(path.read_bytes())
    from phoenix_secure.evidence.dsse import key_id

    forged["signatures"][0]["keyid"] = key_id(OFFICER.public_key)
    path.write_bytes(canonical(forged))
    assert "signature does not hold" in failures(check(signed))


def test_a_signature_over_another_report_does_not_hold(
    signed: Path, make_audit: Callable[..., bytes]
) -> None:
    run = signed.parents[1]
    path = countersignatures_of(signed)[0]
    content = path.read_bytes()
    (run / "audit" / "audit.json").write_bytes(make_audit(epsilon_lower=0.5))
    write_report(run, identity=server_identity(run))
    assert countersignatures_of(signed) == []  # it was over bytes that are gone
    path.write_bytes(content)
    assert "another report" in failures(check(signed))


def test_the_server_s_own_envelope_is_no_counter_signature(signed: Path) -> None:
    server = server_identity(signed.parents[1])
    path = signed.with_suffix(".dsse.json")
    from phoenix_secure.compliance.countersignature import countersignature_path

    shutil.copy(path, countersignature_path(signed, server.public_key))
    found = check(signed, signers=(OFFICER.public_key, server.public_key))
    assert "not a counter-signature" in failures(found)


def test_the_same_report_built_again_keeps_its_signers(signed: Path) -> None:
    run = signed.parents[1]
    write_report(run, identity=server_identity(run))
    assert check(signed).exit_code == 0


def test_a_report_that_does_not_hold_is_not_signed(signed: Path, tmp_path: Path) -> None:
    page = signed.with_name("report.html")
    page.write_bytes(page.read_bytes() + b" ")
    with pytest.raises(EvidenceError, match=r"not signed: report\.html"):
        sign_report(signed, key=tmp_path / "late.key", new_key=True)
    assert not (tmp_path / "late.key").exists()


def test_keys_are_asked_for_kept_private_and_never_overwritten(
    signed: Path, tmp_path: Path
) -> None:
    key = tmp_path / "mine.key"
    with pytest.raises(ConfigError, match="--new-key"):
        sign_report(signed, key=key)
    made = sign_report(signed, key=key, new_key=True)
    assert key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StorageError):
        sign_report(signed, key=key, new_key=True)
    assert sign_report(signed, key=key).public_key == made.public_key
    key.chmod(0o644)
    with pytest.raises(CheckpointError, match="read by others"):
        sign_report(signed, key=key)


def test_the_command_line_signs_and_checks(signed: Path, tmp_path: Path) -> None:
    key = tmp_path / "second.key"
    words = ("report", "sign", str(signed), "--key", str(key), "--new-key", "--role", "expert")
    done = phoenix(*words, "--format", "json")
    assert done.code == 0, done.err
    public = json.loads(done.out)["public_key"]
    assert key.read_bytes().hex() not in done.out + done.err
    run = signed.parents[1]
    known = ("--roster", str(run / "roster.bin"), "--evidence", str(run))
    signers = ("--signer", public, "--signer", OFFICER.public_key.hex())
    checked = phoenix("verify", str(signed), *known, *signers)
    assert checked.code == 0, checked.out
    assert "expert" in checked.out
    assert phoenix("verify", str(signed), *known, "--signer", public).code == 7
    assert phoenix("verify", str(signed), *known, "--signer", "00").code == 2


def test_a_stamped_report_verifies_with_the_service_s_root(run: Path, tmp_path: Path) -> None:
    service = TimeStampingService.create(tmp_path / "tsa")
    before = (run / "report" / "report.dsse.json").read_bytes()
    with served(service.answer) as url:
        written = report(run, timestamp=url, pdf=False)
    path = written.folder / "report.json"
    assert "report.tsr" in written.written.files
    roster = load_roster(run / "roster.bin", owner_key=None)

    def check_with(pem: bytes | None) -> Verification:
        return verify_report(path, evidence=run, roster=roster, tsa_certificates=pem)

    root = service.root.read_bytes()
    found = check_with(root)
    assert found.exit_code == 0, found.failed
    assert any("signed before" in each.detail for each in found.checks)
    assert check_with(None).exit_code == 7
    stranger = TimeStampingService.create(tmp_path / "other").root.read_bytes()
    assert "time stamp" in failures(check_with(stranger))
    # The same bytes keep their stamp; a signer leaves them as they are; other bytes lose it.
    write_report(run, identity=server_identity(run))
    sign_report(path, key=tmp_path / "a.key", new_key=True)
    stamp = path.with_suffix(".tsr").read_bytes()
    assert not check_with(root).failed
    write_report(run, identity=server_identity(run), profiles=())
    assert not path.with_suffix(".tsr").exists()
    assert path.with_suffix(".dsse.json").read_bytes() != before
    path.with_suffix(".tsr").write_bytes(stamp)
    for pem in (root, None):
        assert "other bytes" in failures(check_with(pem))
    path.with_suffix(".tsr").unlink()
    assert check_with(root).exit_code == 7


def test_without_an_answer_the_report_stands_without_a_stamp(run: Path) -> None:
    (run / "report" / "report.json").unlink()
    done = phoenix("report", str(run), "--no-pdf", "--timestamp", "http://127.0.0.1:9/tsa")
    assert done.code == 5
    assert "gave no time stamp" in done.err
    assert (run / "report" / "report.json").exists()
    assert not (run / "report" / "report.tsr").exists()


def test_a_stamp_from_before_the_newest_entry_is_named(run: Path, tmp_path: Path) -> None:
    from phoenix_secure.evidence import Event, Ledger

    tomorrow = "2999-01-01T00:00:00.000+00:00"
    identity = server_identity(run)
    ledger = Ledger(run / "evidence" / "ledger.jsonl", identity=identity, clock=lambda: tomorrow)
    ledger.append(Event.RESUMED, round=2)
    service = TimeStampingService.create(tmp_path / "tsa")
    with served(service.answer) as url:
        report(run, timestamp=url, pdf=False)
    found = verify_report(
        run / "report" / "report.json", tsa_certificates=service.root.read_bytes()
    )
    assert "before the newest entry" in failures(found)


def test_without_the_extra_a_stamp_is_not_taken_as_checked(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rfc3161_client", None)
    path = run / "report" / "report.json"
    path.with_suffix(".tsr").write_bytes(b"a stamp")
    found = check(path, signers=())
    assert found.exit_code == 7
    assert any("phoenix-secure[timestamp]" in each.detail for each in found.checks)
    before = path.stat().st_mtime_ns
    with pytest.raises(ConfigError, match="extra timestamp"):
        report(run, timestamp="http://127.0.0.1:9/tsa", pdf=False)
    assert path.stat().st_mtime_ns == before  # refused before anything was built


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_file_that_holds_no_certificate_is_a_mistake_of_the_reader(
    content: bytes | None, run: Path, tmp_path: Path
) -> None:
    pem = tmp_path / "tsa.pem"
    if content is not None:
        pem.write_bytes(content)
    path = str(run / "report" / "report.json")
    done = phoenix("verify", path, "--tsa-certificate", str(pem))
    assert done.code == 2
    assert "--tsa-certificate" in done.err
