"""Whatever is changed after signing, verification says so and names it."""

from __future__ import annotations

import base64
import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from phoenix_secure.compliance.output import write_report
from phoenix_secure.compliance.signing import server_identity
from phoenix_secure.compliance.verification.verify import Verification, load_roster, verify_report
from phoenix_secure.evidence import Ledger, Scope, TreeHead, read_ledger
from phoenix_secure.evidence.canonical import canonical
from phoenix_secure.evidence.dsse import Envelope, sign_envelope
from phoenix_secure.evidence.ledger import Entry
from phoenix_secure.evidence.merkle import MerkleTree
from protocol import SERVER, Identity, Roster

REPORT, ENVELOPE = "report/report.json", "report/report.dsse.json"
SCOPE = ("federation", "plan", "nonce")
LEDGER, MODEL = "evidence/ledger.jsonl", "model/unet/diffusion_pytorch_model.safetensors"


def check(run: Path, *, pinned: Path) -> Verification:
    """Verify against the roster that the reader had before anything was changed."""
    roster = load_roster(pinned / "roster.bin", owner_key=None)
    return verify_report(run / REPORT, evidence=run, roster=roster)


def failed(run: Path, *, pinned: Path) -> str:
    """What verification names, in one text; it must name something."""
    found = check(run, pinned=pinned)
    assert found.exit_code == 5
    assert found.failed
    return "; ".join(f"{each.name}: {each.detail}" for each in found.failed)


def edit_report(run: Path, edit: Callable[[dict], None]) -> None:
    """Change report.json and write it canonically, as a careful forger would."""
    value = json.loads((run / REPORT).read_text())
    edit(value)
    (run / REPORT).write_bytes(canonical(value))


def set_field(run: Path, id: str, value: object) -> None:
    def edit(report: dict) -> None:
        next(each for each in report["fields"] if each["id"] == id)["value"] = value

    edit_report(run, edit)


def edit_lines(run: Path, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    lines = (run / LEDGER).read_bytes().splitlines(keepends=True)
    (run / LEDGER).write_bytes(b"".join(edit(lines)))


def write_ledger(run: Path, entries: list[Entry], identity: Identity) -> None:
    """A whole new history, correctly chained and signed by ``identity``."""
    tree, lines = MerkleTree(), []
    for index, entry in enumerate(entries):
        entry = dataclasses.replace(entry, index=index)
        tree.append(entry.leaf)
        begun = max(each.round_begun for each in entries[: index + 1])
        head = TreeHead(
            ledger=entry.ledger,
            size=tree.size,
            root=tree.root().hex(),
            scope=Scope(**{name: entries[0].facts[name] for name in SCOPE}),
            round=begun,
        )
        signature = base64.b64encode(head.sign(identity)).decode()
        line = {"entry": entry.to_dict(), "root": head.root, "signature": signature}
        lines.append(canonical(line) + b"\n")
    (run / LEDGER).write_bytes(b"".join(lines))


def replace_json(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def append(path: Path, content: bytes) -> None:
    path.write_bytes(path.read_bytes() + content)


def swap(lines: list[bytes], one: int, two: int) -> list[bytes]:
    lines[one], lines[two] = lines[two], lines[one]
    return lines


def other_signature(run: Path) -> None:
    envelope = Envelope.from_dict(json.loads((run / ENVELOPE).read_text()))
    forger = Identity.generate(SERVER)
    forged = sign_envelope(
        envelope.payload, payload_type=envelope.payload_type, identity=forger
    ).to_dict()
    (run / ENVELOPE).write_bytes(canonical(forged))


def edit_envelope(run: Path, **changes: object) -> None:
    value = json.loads((run / ENVELOPE).read_text()) | changes
    (run / ENVELOPE).write_bytes(canonical(value))


def edit_statement(run: Path, old: bytes, new: bytes) -> None:
    value = json.loads((run / ENVELOPE).read_text())
    payload = base64.b64decode(value["payload"])
    assert old in payload
    edit_envelope(run, payload=base64.b64encode(payload.replace(old, new)).decode())


def second_signature(run: Path) -> None:
    value = json.loads((run / ENVELOPE).read_text())
    value["signatures"].append({"keyid": "0" * 64, "sig": base64.b64encode(b"0" * 64).decode()})
    (run / ENVELOPE).write_bytes(canonical(value))


def other_key_id(run: Path) -> None:
    value = json.loads((run / ENVELOPE).read_text())
    value["signatures"][0]["keyid"] = "0" * 64
    (run / ENVELOPE).write_bytes(canonical(value))


def drop_field(run: Path) -> None:
    edit_report(run, lambda report: report["fields"].pop(3))


def reorder_fields(run: Path) -> None:
    edit_report(run, lambda report: report["fields"].reverse())


def hide_failure(run: Path) -> None:
    edit_report(run, lambda report: report["headline"].update(failures=["made up"]))


def unknown_key(run: Path) -> None:
    edit_report(run, lambda report: report.update(compliant=True))


def as_declared(run: Path) -> None:
    def edit(report: dict) -> None:
        report["fields"][0]["kind"] = "declared"

    edit_report(run, edit)


def spaced(run: Path) -> None:
    (run / REPORT).write_text(json.dumps(json.loads((run / REPORT).read_text()), indent=1))


def lower_noise(run: Path) -> None:
    path = run / "sites" / "site-02" / "privacy.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["event"]["noise_multiplier"] *= 2
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


# Each: what is done to the run's folder, and a word that verification must name it by.
TAMPERING: dict[str, tuple[Callable[[Path], object], str]] = {
    "epsilon in the report": (lambda run: set_field(run, "C2.epsilon", 0.5), "epsilon"),
    "delta in the report": (lambda run: set_field(run, "C2.delta", 1e-9), "epsilon"),
    "ceiling in the report": (
        lambda run: set_field(run, "C4.ceilings", {"0.1": 0.1}),
        "C4.ceilings",
    ),
    "number of sites": (lambda run: set_field(run, "B1.num_sites", 50), "B1.num_sites"),
    "trust table": (lambda run: set_field(run, "D1.trust", {"the server": {}}), "D1.trust"),
    "verdict": (lambda run: set_field(run, "E1.plan", {"profile": "full"}), "E1.plan"),
    "coverage": (lambda run: set_field(run, "E3.coverage", []), "E3.coverage"),
    "limits left out": (lambda run: set_field(run, "G1.limits", []), "G1.limits"),
    "a field dropped": (drop_field, "dropped"),
    "fields reordered": (reorder_fields, "reordered"),
    "a verdict added": (unknown_key, "not a report of this version"),
    "first lines": (hide_failure, "contradiction"),
    "measured called declared": (as_declared, "A1.versions"),
    "report not canonical": (spaced, "canonical"),
    "report truncated": (
        lambda run: (run / REPORT).write_bytes((run / REPORT).read_bytes()[:-40]),
        "report.json",
    ),
    "report empty": (lambda run: (run / REPORT).write_bytes(b""), "report.json"),
    "report hostile": (lambda run: (run / REPORT).write_bytes(b"[" * 100_000), "report.json"),
    "signature gone": (lambda run: (run / ENVELOPE).unlink(), "report.dsse.json"),
    "signature of another key": (other_signature, "another key"),
    "key id": (other_key_id, "another key"),
    "second signature": (second_signature, "more than one"),
    "payload type": (lambda run: edit_envelope(run, payloadType="text/plain"), "signature"),
    "statement": (
        lambda run: edit_statement(run, b'"failures":[]', b'"failures":[0]'),
        "signature",
    ),
    "envelope not JSON": (lambda run: (run / ENVELOPE).write_bytes(b"\xff\x00"), "envelope"),
    "HTML page": (lambda run: append(run / "report" / "report.html", b"<p>safe"), "report.html"),
    "Markdown": (lambda run: append(run / "report" / "report.md", b"safe"), "report.md"),
    "bill of materials": (lambda run: append(run / "report" / "bom.cdx.json", b" "), "bom.cdx"),
    "model card": (lambda run: append(run / "report" / "model-card.md", b" "), "model-card"),
    "weights": (lambda run: append(run / MODEL, b"\x00"), MODEL),
    "weights gone": (lambda run: (run / MODEL).unlink(), MODEL),
    "model settings": (lambda run: append(run / "model" / "unet" / "config.json", b" "), "config"),
    "audit's AUC": (
        lambda run: replace_json(run / "audit" / "audit.json", "0.52", "0.51"),
        "audit/audit.json",
    ),
    "audit gone": (lambda run: (run / "audit" / "audit.json").unlink(), "audit/audit.json"),
    "summary": (
        lambda run: replace_json(run / "summary.json", '"unit": "record"', '"unit": "site"'),
        "summary.json",
    ),
    "versions": (lambda run: append(run / "versions.json", b" "), "versions.json"),
    "settings": (lambda run: append(run / "config.yaml", b"\n# x"), "config.yaml"),
    "a site's privacy ledger": (lower_noise, "C2.per_site"),
    "declared later": (
        lambda run: (run / "governance.yaml").write_text("release_context: internal"),
        "A5.release_context",
    ),
    "entry dropped": (lambda run: edit_lines(run, lambda x: [*x[:4], *x[5:]]), "line 5"),
    "entries reordered": (lambda run: edit_lines(run, lambda x: swap(x, 4, 5)), "line 5"),
    "entry repeated": (lambda run: edit_lines(run, lambda x: [*x[:5], *x[4:]]), "line 6"),
    "entry changed": (
        lambda run: edit_lines(
            run, lambda x: [line.replace(b'"round":1', b'"round":9') for line in x]
        ),
        "does not follow",
    ),
    "last entry dropped": (lambda run: edit_lines(run, lambda x: x[:-1]), "dropped"),
    "half an entry added": (lambda run: append(run / LEDGER, b'{"entry":'), "behind the last"),
    "ledger empty": (lambda run: (run / LEDGER).write_bytes(b""), "ledger"),
    "ledger gone": (lambda run: (run / LEDGER).unlink(), "ledger"),
    "a site's kept head": (
        lambda run: replace_json(run / "sites" / "site-01" / "heads.jsonl", '"size":', '"size":1'),
        "site-01",
    ),
    "heads kept by another site": (
        lambda run: shutil.copyfile(
            run / "sites" / "site-02" / "heads.jsonl", run / "sites" / "site-01" / "heads.jsonl"
        ),
        "the site that kept it",
    ),
    "heads of a site that is none": (
        lambda run: (run / "sites" / "site-01").rename(run / "sites" / "site-99"),
        "no such site",
    ),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_tampering_is_detected_and_named(name: str, run: Path, reported: Path) -> None:
    damage, word = TAMPERING[name]
    damage(run)
    assert word in failed(run, pinned=reported)


def test_there_are_at_least_thirty_ways_of_tampering() -> None:
    assert len(TAMPERING) >= 30


def test_an_untouched_run_holds_in_every_check(reported: Path) -> None:
    found = check(reported, pinned=reported)
    assert [each for each in found.checks if each.state.value != "holds"] == []
    assert found.exit_code == 0


@pytest.mark.parametrize("num_places", [1, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [REPORT, ENVELOPE, LEDGER, MODEL, "audit/audit.json"])
def test_any_flipped_byte_is_detected(
    name: str, num_places: int, run: Path, reported: Path
) -> None:
    content = (run / name).read_bytes()
    draws = random.Random(5)  # noqa: S311 - places to look at, no secret
    places = {0, len(content) - 1, *(draws.randrange(len(content)) for _ in range(num_places))}
    for place in sorted(places):
        flipped = bytearray(content)
        flipped[place] ^= 1 << draws.randrange(8)
        (run / name).write_bytes(bytes(flipped))
        assert check(run, pinned=reported).exit_code == 5, f"byte {place} of {name}"


def test_a_server_that_rewrites_its_history_is_caught_by_the_heads_that_sites_kept(
    run: Path, reported: Path
) -> None:
    identity = server_identity(run)
    entries = list(read_ledger(run / LEDGER).entries)
    victim = next(k for k, entry in enumerate(entries) if entry.event == "aggregated")
    facts = entries[victim].facts | {"survivors": 4}
    entries[victim] = dataclasses.replace(entries[victim], facts=facts)
    write_ledger(run, entries, identity)
    write_report(run, identity=identity)
    named = failed(run, pinned=reported)
    assert "heads kept by site-01" in named
    assert "signed another history" in named


def test_a_forked_ledger_of_the_same_server_is_caught(run: Path, reported: Path) -> None:
    identity = server_identity(run)
    entries = list(read_ledger(run / LEDGER).entries)
    write_ledger(run, entries[:-1], identity)
    Ledger(run / LEDGER, identity=identity).append("audited", file="audit/audit.json", sha256="0")
    assert "forked or rewritten" in failed(run, pinned=reported)


def test_another_run_s_ledger_is_caught(run: Path, reported: Path) -> None:
    identity = server_identity(run)
    (run / LEDGER).unlink()
    scope = Scope.new(federation="other", plan="ab" * 32)
    Ledger.create(run / LEDGER, identity=identity, scope=scope)
    assert "ledger of another run" in failed(run, pinned=reported)


def test_keys_that_were_all_replaced_do_not_pass_for_the_pinned_ones(
    run: Path, reported: Path
) -> None:
    """Whoever signs everything anew, roster included, is stopped by the reader's own roster."""
    owner, server = Identity.generate("owner"), Identity.generate(SERVER)
    old = load_roster(run / "roster.bin", owner_key=None).current
    roster = Roster.create(
        federation_id=old.federation_id,
        owner_key=owner.public_key,
        server_key=server.public_key,
        keys=dict(old.members),
    )
    (run / "roster.bin").write_bytes(roster.sign(owner))
    (run / "owner.key.pub").write_bytes(owner.public_key)
    entries = []
    for entry in read_ledger(run / LEDGER).entries:
        facts = dict(entry.facts)
        if entry.event == "opened":
            facts["server_key"] = server.public_key.hex()
        if entry.event == "roster":
            facts["sha256"] = roster.hash.hex()
        entries.append(dataclasses.replace(entry, facts=facts))
    write_ledger(run, entries, server)
    write_report(run, identity=server)
    named = failed(run, pinned=reported)
    assert "another server key than the pinned one" in named
    assert "another roster than the pinned one" in named
    assert "signature" in named


def test_a_report_in_another_run_s_folder_is_caught(
    run: Path, reported: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(reported, other)
    shutil.copy(run / "server" / "rounds.jsonl", other / MODEL)
    found = verify_report(run / REPORT, evidence=other)
    assert MODEL in "; ".join(each.detail for each in found.failed)
