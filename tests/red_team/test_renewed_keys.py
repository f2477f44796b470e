"""New keys in a site's folder: nobody else gets his own in, and no kill loses either set.

An attacker carries files, is another site, has an old key of this one, or cuts the power.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ceremony import Ceremony, files_of, owner_of, refusal
from phoenix_secure.config_file import load_config
from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.federation.deployment import key_renewal
from phoenix_secure.federation.deployment.join_request import (
    JoinRequest,
    parse_request,
    read_request,
    site_request,
)
from phoenix_secure.federation.deployment.key_renewal import (
    finish_switch,
    prepare_renewal,
    renewal_request,
)
from phoenix_secure.federation.deployment.party_keys import SiteKeys, read_identity
from phoenix_secure.federation.deployment.site_folder import SiteFolder
from phoenix_secure.federation.deployment.site_installation import installer
from phoenix_secure.federation.deployment.site_process import SiteProcess
from phoenix_secure.federation.engines.exchange import FailureCode
from phoenix_secure.federation.engines.failure import SiteFailure
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.privacy.events import PoissonSampledGaussian
from phoenix_secure.privacy.ledger import PrivacyLedger, Release
from protocol import ChangeKind, Identity
from protocol.encoding import Reader, encode
from protocol.suite import Suite

SITES = ("clinic", "hospital", "practice")
KEYS = ("identity.key", "node.key", "door.key")
EVENT = PoissonSampledGaussian(sampling_rate=0.1, noise_multiplier=1.0, steps=5)


@pytest.fixture
def net(tmp_path: Path) -> Ceremony:
    made = Ceremony(tmp_path / "net")
    made.make(SITES)
    return made


def admit(net: Ceremony, request: JoinRequest) -> None:
    net.owner.admit(request, heard=request.fingerprint.words, replaces=True)


def renewed(net: Ceremony) -> Path:
    """The clinic's new keys are admitted and in the roster; its welcome is on its way."""
    admit(net, prepare_renewal(net.place("clinic")))
    net.owner.sign()
    return net.welcome_file("clinic")


def identity_of(net: Ceremony, site: str) -> Identity:
    return read_identity(net.place(site), site, suite=Suite.CLASSICAL)


def forged(earlier: Identity | None, party: str = "clinic") -> JoinRequest:
    keys = SiteKeys.generate(party, suite=Suite.CLASSICAL)
    return site_request(keys, federation="net", suite=Suite.CLASSICAL, earlier=earlier)


def test_true_renewal_puts_new_keys_in_place_and_keeps_everything_else(net: Ceremony) -> None:
    """So that the refusals below are of the lie."""
    place = net.place("clinic")
    (place / "privacy.jsonl").write_bytes(b"")
    before, old = files_of(place), identity_of(net, "clinic")
    welcome = renewed(net)
    assert files_of(place).items() >= before.items()  # the old keys serve on
    net.open_renewal("clinic", welcome).complete()
    after = files_of(place)
    site = SiteFolder(place)
    assert site.identity(site.settings(), site.roster()).public_key != old.public_key
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed == {*KEYS, "door.crt", "roster.bin"}
    assert set(after) - set(before) == {"audit.jsonl"}  # nothing of `next` and `switch`
    for name in KEYS:
        assert stat.S_IMODE((place / name).stat().st_mode) == 0o600
        assert not any(before[name] in content for content in after.values())
    assert [line["event"] for line in site.audit().lines()] == ["keys renewed", "roster"]


def test_renewal_is_made_once_however_often_it_is_asked_for(net: Ceremony) -> None:
    place = net.place("clinic")
    first = prepare_renewal(place)
    assert prepare_renewal(place).data == first.data
    assert renewal_request(place) == first
    shutil.rmtree(place / "next")
    assert prepare_renewal(place).data != first.data


def test_earlier_key_of_another_site_is_refused(net: Ceremony) -> None:
    for party, earlier in (("clinic", "hospital"), ("hospital", "clinic")):
        request = forged(identity_of(net, earlier), party)
        with pytest.raises(ConfigError, match=f"signed by an earlier key that is not {party}'s"):
            admit(net, request)
    with pytest.raises(ConfigError, match="that is not clinic's in the roster"):
        admit(net, forged(Identity.generate("clinic")))


def test_earlier_key_that_was_replaced_already_is_refused(net: Ceremony) -> None:
    thief = identity_of(net, "clinic")
    net.open_renewal("clinic", renewed(net)).complete()
    with pytest.raises(ConfigError, match="that is not clinic's in the roster"):
        admit(net, forged(thief))
    net.decide(ChangeKind.REVOKED, "hospital", "key stolen")
    stolen = identity_of(net, "hospital")
    net.owner.sign()
    with pytest.raises(ConfigError, match="that is not hospital's in the roster"):
        admit(net, forged(stolen, "hospital"))


def test_words_are_asked_for_all_the_same(net: Ceremony) -> None:
    """The thief of a site's key signs with it; the words are the site's own."""
    true = prepare_renewal(net.place("clinic"))
    thief = forged(identity_of(net, "clinic"))
    with pytest.raises(ConfigError, match="are not those of clinic"):
        net.owner.admit(thief, heard=true.fingerprint.words, replaces=True)


def test_proof_of_continuity_can_be_neither_taken_off_nor_exchanged(net: Ceremony) -> None:
    request = prepare_renewal(net.place("clinic"))
    reader = Reader(request.data, peer="request")
    body, *signatures = (bytes(reader.view("part", max_size=1 << 14)) for _ in range(4))
    stranger = Identity.generate("clinic")
    for parts in (
        signatures[:2],
        [*signatures[:2], b""],
        [*signatures[:2], stranger.sign(body)],
        [*signatures[:2], signatures[0]],
        [*signatures, b""],
    ):
        with pytest.raises(Exception, match=r"earlier|truncated|last field"):
            parse_request(encode([body, *parts]))
    assert parse_request(encode([body, *signatures])) == request


def test_replayed_old_welcome_brings_no_old_key_back(net: Ceremony, tmp_path: Path) -> None:
    old = Path(shutil.copy(net.welcome_file("clinic"), tmp_path / "old.welcome"))
    welcome = renewed(net)
    # Before the switch: it is the roster of now, and the new keys stay where they are.
    net.open_renewal("clinic", old).complete()
    assert renewal_request(net.place("clinic")) is not None
    net.open_renewal("clinic", welcome).complete()
    with refusal(net.place("clinic"), "rollback"):
        net.open_renewal("clinic", old).complete()


def test_welcome_with_a_key_that_the_site_never_made_is_refused(net: Ceremony) -> None:
    request = forged(None)
    prepare_renewal(net.place("clinic"))
    admit(net, request)
    net.owner.sign()
    with refusal(net.place("clinic"), "holds another key than this folder's"):
        net.open_renewal("clinic").complete()


def test_site_that_lost_its_key_renews_without_a_proof(net: Ceremony) -> None:
    place = net.place("clinic")
    (place / "identity.key").unlink()
    request = prepare_renewal(place)
    assert request.earlier_key == b""
    admit(net, request)
    net.owner.sign()
    net.open_renewal("clinic").complete()
    site = SiteFolder(place)
    site.identity(site.settings(), site.roster())


def test_site_that_is_revoked_or_has_another_key_renews_nothing(net: Ceremony) -> None:
    place = net.place("hospital")
    (place / "identity.key").write_bytes(os.urandom(32))
    with refusal(place, "is not the key of hospital in the roster"):
        prepare_renewal(place)


def charge(place: Path, number: int) -> Release:
    release = Release(
        id=str(number), plan="0" * 64, round_number=number, data="d" * 64, event=EVENT
    )
    PrivacyLedger.open(place / "privacy.jsonl").charge(release, max_releases=9, total=None)
    return release


def test_ledger_stays_in_force_and_a_lost_one_stops_the_site(net: Ceremony) -> None:
    place = net.place("clinic")
    site = SiteFolder(place)
    site.make_folders()
    audit = site.audit()
    spent = charge(place, 1)
    audit.record("answered", **site.kept_files().news())
    old = (place / "privacy.jsonl").read_bytes()
    spent_later = charge(place, 2)
    audit.record("answered", **site.kept_files().news())
    net.open_renewal("clinic", renewed(net)).complete()
    assert PrivacyLedger(place / "privacy.jsonl").releases() == (spent, spent_later)
    SiteProcess(site, say=str)
    newest = (place / "privacy.jsonl").read_bytes()
    for lost, said in ((b"", "missing or empty"), (old, "an old copy")):
        (place / "privacy.jsonl").write_bytes(lost)
        with pytest.raises(CheckpointError, match=said):
            SiteProcess(site, say=str)
    (place / "privacy.jsonl").write_bytes(newest)
    SiteProcess(site, say=str)


def killed_at(step: int, folder: Path, act: Callable[[], object]) -> bool:
    """Run ``act`` in a process that dies just before it touches a file below ``folder`` for the
    ``step``-th time; False where it came to its end."""
    child = os.fork()
    if child == 0:
        touched = 0

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal touched
            changes = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod")
            if event == "open":
                flags = arguments[2]
                changes = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
            if changes and str(arguments[0]).startswith(str(folder)):
                touched += 1
                if touched == step:
                    os._exit(9)

        sys.addaudithook(hook)
        try:
            act()
            os._exit(0)
        except BaseException:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.long
def test_switch_that_is_killed_at_any_write_loses_no_key(net: Ceremony, tmp_path: Path) -> None:
    """After each kill the site has a whole set of keys, and joining again ends with the new one."""
    place, spare = net.place("clinic"), tmp_path / "spare"
    old = identity_of(net, "clinic").public_key
    welcome = renewed(net)
    new = read_identity(place / "next", "clinic", suite=Suite.CLASSICAL).public_key
    shutil.copytree(place, spare)
    outcomes, step = [], 0
    while True:
        step += 1
        shutil.rmtree(place)
        shutil.copytree(spare, place)
        if not killed_at(step, place, lambda: net.open_renewal("clinic", welcome).complete()):
            break
        finish_switch(place)  # as `site start` does
        site = SiteFolder(place)
        key = site.identity(site.settings(), site.roster()).public_key
        assert key in (old, new)
        node = read_node(place)
        assert node == read_node(spare if key == old else spare / "next")
        outcomes.append(key)
        net.open_renewal("clinic", welcome).complete()
        assert site.identity(site.settings(), site.roster()).public_key == new
        assert {"next", "switch"} & {path.name for path in place.iterdir()} == set()
        renewals = [line for line in site.audit().lines() if line["event"] == "keys renewed"]
        assert len(renewals) == 1
    assert step > 15
    assert outcomes == sorted(outcomes, key=lambda key: key == new)  # one moment, and no way back
    assert {old, new} == set(outcomes)


def read_node(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "node.key").read_bytes(), (folder / "door.key").read_bytes()


@pytest.mark.long
def test_making_new_keys_that_is_killed_at_any_write_leaves_the_site_as_it_was(
    net: Ceremony, tmp_path: Path
) -> None:
    place, spare = net.place("clinic"), tmp_path / "spare"
    shutil.copytree(place, spare)
    step = 0
    while True:
        step += 1
        shutil.rmtree(place)
        shutil.copytree(spare, place)
        if not killed_at(step, place, lambda: prepare_renewal(place)):
            break
        site = SiteFolder(place)
        site.identity(site.settings(), site.roster())
        request = prepare_renewal(place)
        assert read_request(place / "next" / "clinic.request") == request
        assert not list(place.glob(".next.*"))
    assert step > 5


def test_switch_never_takes_the_site_back_behind_a_roster_that_came_meanwhile(
    net: Ceremony, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The running site takes a newer roster from the server between the two halves."""
    place = net.place("clinic")
    renewal = net.open_renewal("clinic", renewed(net))
    net.decide(ChangeKind.SUSPENDED, "hospital")
    net.owner.sign()
    newest = net.owner.rosters()
    with monkeypatch.context() as patch:
        patch.setattr(key_renewal, "finish_switch", lambda folder: None)
        renewal.complete()
    assert (place / "switch").is_dir()
    (place / "roster.bin").write_bytes(newest.to_bytes())
    finish_switch(place)
    assert not (place / "switch").exists()
    assert SiteFolder(place).rosters().current.epoch == newest.current.epoch == 3


def test_site_that_starts_finishes_a_switch_that_was_interrupted(
    net: Ceremony, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = net.place("clinic")
    renewal = net.open_renewal("clinic", renewed(net))
    with monkeypatch.context() as patch:
        patch.setattr(key_renewal, "finish_switch", lambda folder: None)
        renewal.complete()
    assert (place / "switch").is_dir()
    SiteProcess(SiteFolder(place), say=str)
    assert not (place / "switch").exists()


def test_site_that_runs_on_with_its_old_key_trains_under_no_plan_over_the_new_one(
    net: Ceremony,
) -> None:
    site = SiteFolder(net.place("clinic"))
    site.make_folders()
    settings = site.settings()
    install = installer(
        site, settings, approver=site.approver(settings), cancelled=threading.Event()
    )
    net.open_renewal("clinic", renewed(net)).complete()
    config = load_config(
        None,
        ["data.name=digits", "data.image_size=8", "data.channels=1", "partition.num_sites=3"],
    )
    plan = Plan.make(config, roster=site.roster(), bundle_hash="0" * 64)
    with pytest.raises(SiteFailure) as refused:
        install(plan)
    assert refused.value.code is FailureCode.REFUSED
    assert "start the site again" in (refused.value.why or "")


def test_owner_alone_signs_the_new_key_in(net: Ceremony) -> None:
    """The site's request among the admitted, put there by whoever can write there."""
    request = prepare_renewal(net.place("clinic"))
    stranger = Identity.generate("owner")
    path = net.owner.path / "admitted" / "clinic.admission"
    path.write_bytes(encode([request.data, stranger.sign(request.data)]))
    with pytest.raises(ConfigError, match="no admission that this owner signed"):
        net.owner.sign()
    assert owner_of(net).public_key != stranger.public_key
