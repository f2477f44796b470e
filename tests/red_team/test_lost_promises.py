"""A site that is made to forget: what it promised, what it released, or its secrets, is deleted.

A record of promises that was missing used to be made anew, and so were the keys: a site whose
folder lost a file, or got an old copy back, signed a second sum of one training round, counted its
privacy budget from zero, or entered another input when a round was repeated. Until 0.1.0 nothing
on its machine noticed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from built_once import built_once
from command_line import phoenix
from own_folder import RECORD, OwnFolderSite, digit_pictures
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.site_process import SiteProcess
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.engines.request import SiteRequest
from phoenix_secure.federation.round.confirmation import Certificate
from phoenix_secure.federation.round.stages import PLAN_STAGE
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.secagg.offers import RoundOffer
from phoenix_secure.federation.site.approval import sign_approval
from phoenix_secure.federation.site.kept_files import CLOSED, FORGOTTEN
from phoenix_secure.privacy.ledger import PrivacyLedger

MODEL = bytes(32)
SURVIVORS = ("site-01", "site-02", "site-03", "site-04")
PRIVATE = [*RECORD, "data.split=keyed", "secure_aggregation.max_images=null"]


class Site:
    """A deployed site that was ready for a plan, and signed rounds under it."""

    def __init__(self, folder: Path) -> None:
        self.place = SiteFolder(folder / "f" / "sites" / "site-01")
        self.folder = self.place.path

    def start(self) -> SiteProcess:
        return SiteProcess(self.place, say=lambda text: None)

    def ask(self, process: SiteProcess, plan: Plan) -> bytes:
        """Offer ``plan``: the site installs it where it is not the last one."""
        request = SiteRequest(
            site="site-01", session=plan.hash, stage=PLAN_STAGE, body=plan.to_bytes()
        )
        return process._gate(request)

    def approve(self, plan: Plan) -> None:
        owner = self.place.approver_identity(self.place.approver_key)
        sign_approval(self.place.approvals, plan=plan.hash, site="site-01", owner=owner)

    def sign(self, plan: Plan, training_round: int) -> None:
        """Promise, as a secure round does; another request has the log note it."""
        record = self.place.record(plan.hash)
        assert record.begin(training_round, model_hash=MODEL)
        assert record.sign(
            training_round, training_round=training_round, model_hash=MODEL, survivors=SURVIVORS
        )

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self.place.audit().lines()]


PLANS: dict[str, Plan] = {}


def name_of(file: str) -> str:
    return file.format(plan=PLANS["first"].hash)


def one_round(folder: Path) -> None:
    """A fresh site takes part in one round; ``backup`` is of that moment; then in a second one."""
    own = OwnFolderSite(folder, images=digit_pictures(30))
    settings = own.folder.settings_file
    settings.write_text(settings.read_text().replace("server:", "folder: x\n#"))
    for name, seed in (("first", 1), ("second", 2)):
        plan = own.plan(*PRIVATE, f"seed={seed}")
        (folder / f"{name}.json").write_bytes(plan.to_bytes())
    plan, site = own.plan(*PRIVATE, "seed=1"), Site(folder)
    site.approve(plan)
    process = site.start()
    assert site.ask(process, plan) == b"ready"
    site.sign(plan, 1)
    site.ask(process, plan)
    shutil.copytree(site.folder, folder / "backup")
    site.sign(plan, 2)
    site.ask(process, plan)


@pytest.fixture
def begun(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Site:
    """A site that took part in two rounds; after the first one ``tmp_path / "backup"`` was made."""
    made = built_once(tmp_path_factory, "lost-promises", one_round)
    for name in ("first", "second"):
        PLANS[name] = Plan.from_bytes((made / f"{name}.json").read_bytes())
    shutil.copytree(made / "backup", tmp_path / "backup")
    return Site(shutil.copytree(made, tmp_path / "copy"))


JOURNALS = ["rounds/{plan}.jsonl", "signed-models.jsonl"]
KEYS = ["training.key", "split.key", "privacy.key"]


def test_no_site_is_refused_that_lost_nothing(begun: Site) -> None:
    """A fresh site started (``one_round``), and so does one that took part, again and again."""
    for _ in range(2):
        assert begun.ask(begun.start(), PLANS["first"]) == b"ready"


@pytest.mark.parametrize("file", [*JOURNALS, *KEYS])
def test_site_does_not_start_without_what_it_had(begun: Site, file: str) -> None:
    path = begun.folder / name_of(file)
    saved = path.read_bytes()
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{path.name} is missing.*close-plans"):
        begun.start()
    assert not path.exists()
    # The newest copy is all it needs.
    path.write_bytes(saved)
    path.chmod(0o600)
    assert begun.ask(begun.start(), PLANS["first"]) == b"ready"


@pytest.mark.parametrize("file", JOURNALS)
def test_site_does_not_start_from_an_old_copy(begun: Site, tmp_path: Path, file: str) -> None:
    name = name_of(file)
    if file == "signed-models.jsonl":
        (begun.folder / name).write_bytes(b"")
    else:
        shutil.copy(tmp_path / "backup" / name, begun.folder / name)
    with pytest.raises(CheckpointError, match=r"is an old copy|is missing"):
        begun.start()


def test_site_does_not_start_with_other_promises_or_keys(begun: Site) -> None:
    record = begun.folder / name_of("rounds/{plan}.jsonl")
    record.write_text(record.read_text().replace('"training_round":1', '"training_round":7'))
    (begun.folder / "training.key").write_bytes(bytes(32))
    with pytest.raises(CheckpointError) as caught:
        begun.start()
    assert str(caught.value).count("is another one than before") == 2


def test_site_that_runs_makes_nothing_anew_either(begun: Site) -> None:
    """Another plan was in memory when the file went."""
    plan, other = PLANS["first"], PLANS["second"]
    process = begun.start()
    begun.approve(other)
    assert begun.ask(process, other) == b"ready"
    (begun.folder / "training.key").unlink()
    with pytest.raises(CheckpointError, match=r"training\.key is missing"):
        begun.ask(process, plan)
    assert not (begun.folder / "training.key").exists()


def test_ledger_that_lost_a_release_stops_the_site(begun: Site) -> None:
    """Else what was released would count towards no budget."""
    ledger = begun.folder / "privacy.jsonl"
    assert PrivacyLedger(ledger).releases() == ()
    line = b'{"any": "whole line"}\n'
    ledger.write_bytes(line)
    marks = begun.place.kept_files()
    begun.place.audit().record("answered", plan=PLANS["first"].hash, **marks.news())
    for content, problem in ((None, "missing"), (b"", "missing"), (b"other\n", "old copy")):
        ledger.unlink() if content is None else ledger.write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"privacy\.jsonl is .*{problem}"):
            begun.start()
        ledger.write_bytes(line)


def test_crash_between_a_promise_and_its_line_in_the_log_is_no_loss(begun: Site) -> None:
    begun.sign(PLANS["first"], 3)
    with (begun.folder / name_of("rounds/{plan}.jsonl")).open("ab") as file:
        file.write(b'{"kind":"beg')  # torn: it was never promised to anybody
    assert begun.ask(begun.start(), PLANS["first"]) == b"ready"


def test_audit_log_that_is_gone_is_not_begun_again(begun: Site) -> None:
    begun.place.audit_file.unlink()
    for act in (begun.start, begun.place.audit):
        with pytest.raises(CheckpointError, match=r"audit\.jsonl is missing.*close-plans"):
            act()
    assert not begun.place.audit_file.exists()


@pytest.mark.parametrize("command", ["start", "log"])
def test_owner_reads_one_line(begun: Site, command: str) -> None:
    lost = begun.place.audit_file if command == "log" else begun.folder / "training.key"
    lost.unlink()
    outcome = phoenix("site", command, begun.folder)
    assert outcome.code == 11
    assert outcome.err.count("\n") == 1
    assert lost.name in outcome.err
    assert "site close-plans" in outcome.err


@pytest.mark.parametrize("file", ["rounds/{plan}.jsonl", "training.key", "audit.jsonl"])
def test_way_on_ends_the_plans_begun_and_is_in_the_log(begun: Site, file: str) -> None:
    plan, other = PLANS["first"], PLANS["second"]
    old_key = (begun.folder / "training.key").read_bytes()
    (begun.folder / name_of(file)).unlink()
    refused = phoenix("site", "close-plans", begun.folder, typed="n\n")
    assert refused.code == 2
    assert f"{Path(name_of(file)).name} is missing" in refused.out
    assert "nothing was closed" in refused.err
    done = phoenix("site", "close-plans", begun.folder, typed="y\n")
    assert done.code == 0, done.err
    assert f"closed {plan.hash}" in done.out
    assert CLOSED in phoenix("site", "log", begun.folder).out
    # Neither the old approval nor a new one opens the plan again.
    process = begun.start()
    for _ in range(2):
        with pytest.raises(SiteFailure) as caught:
            begun.ask(process, plan)
        assert caught.value.code == "refused"
        begun.approve(plan)
    assert "closed" in begun.place.audit().lines()[-1]["why"]
    with pytest.raises(ConfigError, match="was closed here"):
        begun.place.require_open(plan.hash)
    # A new plan is a new beginning, with a new key where the old one is lost.
    begun.approve(other)
    assert begun.ask(process, other) == b"ready"
    begun.sign(other, 1)
    begun.ask(process, other)
    begun.start()
    assert ((begun.folder / "training.key").read_bytes() == old_key) == (file != "training.key")


def test_site_that_runs_stops_when_its_plans_are_closed(begun: Site) -> None:
    process = begun.start()
    assert begun.ask(process, PLANS["first"]) == b"ready"
    assert phoenix("site", "close-plans", begun.folder, "--yes").code == 0
    with pytest.raises(SiteFailure):
        begun.ask(process, PLANS["first"])


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_way_on_needs_a_sites_folder(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "x")
    outcome = phoenix("site", "close-plans", tmp_path / "x", "--yes")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "x" / "audit.jsonl").exists()


# A folder that is restored whole: its log agrees with its promises, both are old.


def after_two_rounds(secure_parties, path: Path, *, restore: bool):
    """Five sites; ``site-05`` gets its folder of after round 1 back after round 2."""
    parties = secure_parties.Parties(path, "secure_aggregation.broadcast=sum")
    server = parties.aggregator()
    parties.next_round(server)
    shutil.copytree(path / "site-05", path / "backup")
    parties.next_round(server)
    site = parties.sites["site-05"]
    if restore:
        shutil.rmtree(path / "site-05")
        shutil.copytree(path / "backup", path / "site-05")
    else:  # only the model, which its owner may delete
        shutil.rmtree(path / "site-05" / "model")
    site.restart()
    return parties, server, site


def test_own_signature_tells_a_site_that_was_restored_whole(secure_parties, tmp_path: Path) -> None:
    parties, server, site = after_two_rounds(secure_parties, tmp_path, restore=True)
    found = [parties.next_round(server) for _ in range(3)]
    assert [each.failures for each in found] == [
        {"site-05": "behind"},  # the server thought that it had the state
        {"site-05": "refused"},  # and hands it its own signature of round 2
        {"site-05": "refused"},
    ]
    assert site.trainings == [1, 2]
    (line,) = [line for line in site.log if line["event"] == FORGOTTEN]
    assert line["round"] == 2
    assert "signed round 2" in line["why"]


def test_site_that_lost_its_model_alone_goes_on(secure_parties, tmp_path: Path) -> None:
    parties, server, site = after_two_rounds(secure_parties, tmp_path, restore=False)
    found = [parties.next_round(server) for _ in range(2)]
    assert [each.failures for each in found] == [{"site-05": "behind"}, {}]
    assert site.log == []


def test_signature_of_somebody_else_stops_no_site(secure_parties, tmp_path: Path) -> None:
    """Else a server, or a site with its help, could frame a site as one that forgets."""
    parties, server, site = after_two_rounds(secure_parties, tmp_path, restore=True)
    honest = parties.engine.exchange

    def forged(stage: str, requests: dict[str, bytes], **more):
        return honest(stage, {s: forge(stage, s, b) for s, b in requests.items()}, **more)

    def forge(stage: str, name: str, body: bytes) -> bytes:
        if stage != "announce" or name != "site-05":
            return body
        offer = site.secure._model.read(body)
        if offer.catch_up is None or offer.catch_up.own is None:
            return body
        own = offer.catch_up.own
        ((_, signature),) = own.signatures
        wrong = Certificate(claim=own.claim, signatures=(("site-04", signature),))
        claim = own.claim
        lies = [
            wrong,
            Certificate(claim=claim, signatures=(("site-05", bytes(len(signature))),)),
        ]
        return RoundOffer(
            announcement=offer.announcement,
            round_number=offer.round_number,
            base=offer.base,
            catch_up=replace(offer.catch_up, own=lies[offer.round_number % 2]),
        ).to_bytes()

    parties.engine.exchange = forged
    found = [parties.next_round(server) for _ in range(2)]
    assert [each.failures for each in found] == [{"site-05": "behind"}, {}]
    assert site.log == []


def test_forgotten_promise_stops_the_site_until_its_record_knows_it(begun: Site) -> None:
    plan = PLANS["first"]
    begun.place.audit().record(FORGOTTEN, plan=plan.hash, round=3, why="signed round 3")
    with pytest.raises(CheckpointError, match="this site signed round 3"):
        begun.start()
    begun.sign(plan, 3)  # the newest copy was restored
    begun.start()
