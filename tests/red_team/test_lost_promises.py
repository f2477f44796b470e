"""Files of promises are deleted, cut, changed, or put back from an older copy.

Until 0.1.0 a site made a missing file anew: without its record it signed other survivors for rounds
that it had signed, without its heads it signed another history, without its privacy ledger it had
spent nothing. The files here are those of a real site that served a plan of two rounds.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import served_site
from built_once import built_once
from command_line import Outcome, phoenix
from phoenix_secure.config_file import load_config
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.site_process import SiteProcess
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.engines.request import SiteRequest
from phoenix_secure.federation.round.confirmation import Certificate, ModelClaim
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.secagg.offers import CatchUp, RoundOffer
from phoenix_secure.federation.site.audit_log import AuditLog
from phoenix_secure.federation.site.kept_files import PromisesLost
from phoenix_secure.federation.site.promises import SiteRecord
from phoenix_secure.privacy.ledger import PrivacyLedger

SITE = "site-01"
PRIVATE = ("privacy.unit=record", "privacy.noise_multiplier=0.6", "privacy.sampling_rate=0.05")
JOURNALS = ("rounds/PLAN.jsonl", "heads/PLAN.jsonl", "privacy.jsonl", "signed-models.jsonl")
KEYS = ("training.key", "split.key", "privacy.key")


class Site:
    """The site after its run; ``file`` names what it keeps."""

    def __init__(self, path: Path) -> None:
        self.place = SiteFolder(path)
        (self.plan,) = (p.stem for p in self.place.plans.glob("*.json"))

    def file(self, name: str) -> Path:
        return self.place.path / name.replace("PLAN", self.plan)

    def start(self) -> SiteProcess:
        return SiteProcess(self.place, say=lambda text: None)

    def ask(self, stage: str, body: bytes = b"") -> bytes:
        gate = self.start()._gate
        return gate(SiteRequest(site=SITE, session=self.plan, stage=stage, body=body))

    def recover(self, *arguments: str, typed: str = "") -> Outcome:
        return phoenix("site", "recover", self.place.path, *arguments, typed=typed)

    @property
    def releases(self) -> int:
        return len(PrivacyLedger(self.place.privacy_ledger).releases(plan=self.plan))

    def write_log(self, lines: list[dict]) -> None:
        """The audit log anew, unbroken, with these lines."""
        self.place.audit_file.unlink()
        log = AuditLog(self.place.audit_file)
        for line in lines:
            kept = {k: v for k, v in line.items() if k not in ("number", "previous", "time")}
            log.record(kept.pop("event"), **kept)


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Site:
    def build(folder: Path) -> None:
        served_site.serve(folder, "federation.rounds=2", *PRIVATE)

    made = built_once(tmp_path_factory, "served-site", build)
    return Site(Path(shutil.copytree(made / "f" / "sites" / SITE, tmp_path / SITE)))


def delete(path: Path) -> None:
    path.unlink()


def older(path: Path) -> None:
    """The copy of the night before: the last record is not in it."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other_record(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.index(b'":', len(content) // 2) - 2
    content[place] ^= 1
    path.write_bytes(bytes(content))


def test_an_untouched_site_starts_again(site: Site) -> None:
    for name in (*JOURNALS, *KEYS):
        assert site.file(name).stat().st_size > 0, name
    site.start()
    assert site.ask("plan", Path(site.place.plans / f"{site.plan}.json").read_bytes()) == b"ready"
    assert "nothing is missing" in site.recover().out


@pytest.mark.parametrize("damage", [delete, older, empty, other_record])
@pytest.mark.parametrize("name", JOURNALS)
def test_a_record_that_is_not_the_newest_stops_the_site(
    site: Site, name: str, damage: Callable[[Path], None]
) -> None:
    path = site.file(name)
    damage(path)
    with pytest.raises(PromisesLost, match=r"site recover") as stopped:
        site.start()
    assert path.name in str(stopped.value)
    assert "\n" not in str(stopped.value)
    # Nothing was made anew, so that the newest copy can still be put back.
    assert not path.exists() or damage is not delete


@pytest.mark.parametrize("name", KEYS)
def test_a_key_that_is_not_the_one_that_was_used_stops_the_site(site: Site, name: str) -> None:
    key = site.file(name).read_bytes()
    site.file(name).unlink()
    with pytest.raises(PromisesLost, match=name):
        site.start()
    site.file(name).write_bytes(bytes(32))
    site.file(name).chmod(0o600)
    with pytest.raises(PromisesLost, match=name):
        site.start()
    site.file(name).write_bytes(key)
    site.start()


def test_an_audit_log_that_is_missing_or_older_stops_the_site(site: Site) -> None:
    lines = site.place.audit().lines()
    for count in (0, 3):
        site.write_log(lines[:count])
        with pytest.raises(PromisesLost, match=r"audit\.jsonl"):
            site.start()
    # An approval that is signed meanwhile does not make up for it.
    site.write_log([{"event": "approved", "plan": site.plan, "days": 90}])
    with pytest.raises(PromisesLost, match=r"audit\.jsonl"):
        site.start()
    site.place.audit_file.unlink()
    with pytest.raises(PromisesLost, match=r"audit\.jsonl"):
        site.start()


def test_a_log_of_version_0_1_0_tells_of_what_must_be_there_too(site: Site) -> None:
    """Its lines have no marks; the answers in it needed records all the same."""
    site.write_log([{**line, "kept": None} for line in site.place.audit().lines()])
    site.start()
    for name in JOURNALS[:2]:
        content = site.file(name).read_bytes()
        site.file(name).unlink()
        with pytest.raises(PromisesLost, match="answers that need one"):
            site.start()
        site.file(name).write_bytes(content)
    older(site.file("rounds/PLAN.jsonl"))
    older(site.file("rounds/PLAN.jsonl"))
    empty(site.file("heads/PLAN.jsonl"))
    with pytest.raises(PromisesLost):
        site.start()


def test_a_file_that_is_lost_while_the_site_runs_ends_every_answer(site: Site) -> None:
    gate = site.start()._gate
    body = Path(site.place.plans / f"{site.plan}.json").read_bytes()
    request = SiteRequest(site=SITE, session=site.plan, stage="plan", body=body)
    gate._kept.news()
    assert gate(request) == b"ready"
    site.file("rounds/PLAN.jsonl").unlink()
    for _ in range(2):
        with pytest.raises(SiteFailure) as refused:
            gate(request)
        assert refused.value.code is FailureCode.REFUSED
    assert "was cut while in use" in site.place.audit().lines()[-1]["why"]


def test_a_crash_between_a_record_and_its_line_stops_nobody(site: Site) -> None:
    """The site was killed after it wrote and before it answered: nothing left."""
    record = SiteRecord(site.file("rounds/PLAN.jsonl"), plan=site.plan)
    assert record.begin(3, model_hash=b"m" * 32)
    with site.file("heads/PLAN.jsonl").open("ab") as file:
        file.write(b'{"head":')  # and a torn line
    site.start()


def test_the_way_on_closes_the_plan_and_nothing_else(site: Site) -> None:
    site.file("rounds/PLAN.jsonl").unlink()
    for typed in ("", "n\n"):
        asked = site.recover(typed=typed)
        assert (asked.code, "nothing was recovered" in asked.err) == (2, True)
        with pytest.raises(PromisesLost):
            site.start()
    done = site.recover(typed="y\n")
    assert done.code == 0, done.err
    assert f"closed: plan {site.plan}" in done.out
    with pytest.raises(SiteFailure):
        site.ask("plan", Path(site.place.plans / f"{site.plan}.json").read_bytes())
    assert "given up here" in site.place.audit().lines()[-1]["why"]
    assert site.releases == 2  # the ledger is whole: nothing is charged on top
    # Another plan, approved afterwards, is served.
    other = new_plan(site)
    served_site.approve(site.place, other)
    gate = site.start()._gate
    request = SiteRequest(site=SITE, session=other.hash, stage="plan", body=other.to_bytes())
    assert gate(request) == b"ready"
    assert "nothing is missing" in site.recover().out


def new_plan(site: Site) -> Plan:
    config = load_config(None, [*served_site.SETTINGS, "federation.rounds=2", "seed=5"])
    return Plan.make(config, roster=site.place.roster(), bundle_hash="ab" * 32)


@pytest.mark.parametrize("name", ["privacy.jsonl", "audit.jsonl", "training.key"])
def test_where_the_budget_is_not_certain_it_counts_as_spent(site: Site, name: str) -> None:
    """What is lost held two releases of two; a plan of which more were left is charged for all."""
    site.file(name).unlink()
    done = site.recover("--yes")
    assert done.code == 0, done.err
    assert site.releases == 2
    assert (f"closed: plan {site.plan}; 2 private" in done.out) == (name == "privacy.jsonl")
    site.start()
    with pytest.raises(SiteFailure):
        site.ask("announce")


def test_a_folder_restored_as_a_whole_is_given_up_as_a_whole(site: Site) -> None:
    older(site.file("privacy.jsonl"))
    marks = {"privacy.jsonl": None}
    lines = site.place.audit().lines()
    whole = [
        {**line, "kept": {k: v for k, v in (line.get("kept") or {}).items() if k not in marks}}
        for line in lines
    ]
    site.write_log(whole)
    site.start()  # log and ledger agree: the site cannot tell
    assert site.recover("--restored", "--yes").code == 0
    assert site.releases == 2
    with pytest.raises(SiteFailure):
        site.ask("announce")


SUM = "secure_aggregation.broadcast=sum"


def test_signatures_that_peers_hold_show_that_a_whole_folder_was_restored(
    secure_parties, tmp_path: Path
) -> None:
    """The site signed round 2; its files are those from before it."""
    parties = secure_parties.Parties(tmp_path, SUM)
    name, server = parties.names[0], parties.aggregator()
    parties.next_round(server)
    backup = Path(shutil.copytree(parties.path / name, tmp_path / "backup"))
    parties.next_round(server)
    shutil.rmtree(parties.path / name)
    shutil.copytree(backup, parties.path / name)
    site = parties.sites[name]
    site.restart()
    assert name not in parties.next_round(server).sites
    assert {line["event"] for line in site.log} == {"restored"}
    assert "other sites hold this site's signature in round 2" in site.log[0]["why"]


def test_a_signature_that_the_site_never_gave_stops_nobody(secure_parties, tmp_path: Path) -> None:
    """Else a server could stop any site by a certificate of its own."""
    parties = secure_parties.Parties(tmp_path, SUM)
    parties.next_round(parties.aggregator())
    site = parties.sites[parties.names[0]]
    claim = ModelClaim(plan=parties.rule.plan, round_number=7, sum=bytes(32), state=bytes(32))
    other = claim.confirmed_by(parties.identities[parties.names[1]], roster=parties.roster)
    certificate = Certificate(claim=claim, signatures=((site.name, other.signature),))
    offer = RoundOffer(
        announcement=b"", round_number=8, base=7, catch_up=CatchUp(certificate=certificate)
    )
    site.secure._check_own_signatures(offer)
    assert site.log == []


def test_what_peers_showed_stops_the_site_at_its_next_start(site: Site) -> None:
    site.place.audit().record("restored", plan=site.plan, why="was restored from an older copy")
    with pytest.raises(PromisesLost, match="restored from an older copy"):
        site.start()
    assert site.recover("--yes").code == 0
    site.start()


def test_a_site_that_remembers_its_signatures_may_have_lost_its_model(
    secure_parties, tmp_path: Path
) -> None:
    """No false alarm: the state was deleted, the record of promises was not."""
    parties = secure_parties.Parties(tmp_path, SUM)
    name, server = parties.names[0], parties.aggregator()
    for _ in range(2):
        parties.next_round(server)
    shutil.rmtree(parties.path / name / "model", ignore_errors=True)
    parties.sites[name].restart()
    assert name in parties.next_round(server).sites
