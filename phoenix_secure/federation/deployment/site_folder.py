"""The folder of a deployed site: all that it keeps; no other party ever sees it.

::

    site.yaml                settings                     plans/HASH.json      what was offered
    ca.crt                   whom to believe as server    approvals/HASH.json  what may run
    node.key                 proves the SuperNode         rounds/HASH.jsonl    what was promised
    door.crt, door.key       open the server's door (TLS) audit.jsonl          what happened
    identity.key             signs this site's messages
    task.secret              for the worker alone         logs/                programs' output
    heads/HASH.jsonl         the server's evidence, as it was shown
    roster.bin, federation-owner.pub, approver.pub        whose signatures count
    reviews/HASH.json        what the owner was shown (approver: syft)
    privacy.jsonl, privacy.key, record-hashes/            what was released, and about which images
    releases/HASH.bin        the newest noised answer under a plan, until the server has the result
    split.key                decides which images are members, held out, or references
    training.key             root of the site's random draws; no other party can repeat them
    signed-models.jsonl      which models were signed over which sites, under all plans

``next`` holds new keys that wait for a welcome, ``switch`` those that are being put in place.
A site that has not joined yet has its keys and ``SITE.request`` here (``joining``).
``approver.key`` signs approvals; it is made here, for the owner of the images to take away.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from phoenix_secure.errors import CheckpointError, ConfigError
from phoenix_secure.federation.deployment.site_settings import SiteSettings, load_site_settings
from phoenix_secure.federation.run.plan import Plan
from phoenix_secure.federation.site.approval import SignedApprovals
from phoenix_secure.federation.site.audit_log import AuditLog
from phoenix_secure.federation.site.kept_files import KeptFiles, has_promises
from phoenix_secure.federation.site.promises import SiteRecord
from phoenix_secure.federation.site.signed_models import SignedModels
from phoenix_secure.files import storage_errors
from phoenix_secure.journal import create_file
from phoenix_secure.secret_files import read_secret
from protocol import Identity, RemoteProtocolError, Roster, RosterChain
from protocol.identity import SEED_SIZE, suite_of_key

__all__ = ["SiteFolder", "pinned_owner", "read_rosters"]


@dataclass(frozen=True, slots=True)
class SiteFolder:
    """Paths and files of the site in ``path``."""

    path: Path

    @property
    def settings_file(self) -> Path:
        return self.path / "site.yaml"

    @property
    def ca_certificate(self) -> Path:
        return self.path / "ca.crt"

    @property
    def node_key(self) -> Path:
        return self.path / "node.key"

    @property
    def door_certificate(self) -> Path:
        """Missing where the federation was made before there were client certificates."""
        return self.path / "door.crt"

    @property
    def door_key(self) -> Path:
        return self.path / "door.key"

    @property
    def task_secret(self) -> Path:
        return self.path / "task.secret"

    @property
    def identity_key(self) -> Path:
        return self.path / "identity.key"

    @property
    def split_key(self) -> Path:
        """Made at the first private plan; with another one, other images would be members."""
        return self.path / "split.key"

    @property
    def training_key(self) -> Path:
        """Made at the first plan; with another one, a repeated round would have another input."""
        return self.path / "training.key"

    @property
    def approver_key(self) -> Path:
        return self.path / "approver.key"

    @property
    def secrets(self) -> tuple[Path, ...]:
        """Files that nobody but this site's user may read."""
        door = (self.door_key,) if self.door_certificate.exists() else ()
        return self.node_key, self.task_secret, self.identity_key, *door

    @property
    def plans(self) -> Path:
        return self.path / "plans"

    @property
    def approvals(self) -> Path:
        return self.path / "approvals"

    @property
    def reviews(self) -> Path:
        return self.path / "reviews"

    @property
    def privacy_ledger(self) -> Path:
        return self.path / "privacy.jsonl"

    @property
    def record_hashes(self) -> Path:
        return self.path / "record-hashes"

    def memory(self, plan_hash: str) -> Path:
        """The folder of the site's state between the rounds of one run (``strategies.memory``)."""
        return self.path / "memory" / plan_hash

    @property
    def audit_file(self) -> Path:
        return self.path / "audit.jsonl"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def settings(self) -> SiteSettings:
        """The site's settings.

        Raises:     ConfigError naming the setting.
        """
        return load_site_settings(self.settings_file)

    def roster(self) -> Roster:
        """The roster in force, if the pinned federation owner signed it."""
        return self.rosters().current

    def rosters(self) -> RosterChain:
        """All rosters, if the pinned federation owner signed them."""
        return read_rosters(self.path)

    def identity(self, settings: SiteSettings, roster: Roster) -> Identity:
        """The signing key of this site.

        Raises:     ConfigError when it is not the one in the roster.
        """
        seed = read_secret(self.identity_key, size=SEED_SIZE)
        identity = Identity(settings.site, seed=seed, suite=roster.suite)
        if roster.key(settings.site) is None:
            raise ConfigError(
                f"{settings.site} is not in the roster of epoch {roster.epoch}: see "
                f"`phoenix-secure site show {self.path}`, and ask the federation's owner"
            )
        if roster.key(settings.site) != identity.public_key:
            raise ConfigError(
                f"{self.identity_key} is not the key of {settings.site} in the roster: "
                "if new keys were made with `site renew`, join with the welcome for them; else "
                "restore it, or let the federation's owner make a new roster"
            )
        return identity

    def approver(self, settings: SiteSettings) -> SignedApprovals:
        """Approvals signed by the pinned key of the images' owner."""
        return SignedApprovals(
            self.approvals,
            site=settings.site,
            owner_key=self.owner_key,
        )

    @property
    def owner_key(self) -> bytes:
        """The pinned public key whose signature approves.

        Raises:     ConfigError when the file is missing or too short.
        """
        return _public_key(self.path / "approver.pub")

    def approver_identity(self, key: Path) -> Identity:
        """The owner's signing key in the file ``key``.

        Raises:     ConfigError when it is not the one that this site pinned.
        """
        identity = Identity("approver", seed=read_secret(key, size=SEED_SIZE))
        if identity.public_key != self.owner_key:
            raise ConfigError(f"{key} is not the key in {self.path / 'approver.pub'}")
        return identity

    def find_plan(self, beginning: str) -> str:
        """The hash of the one offered plan that begins so.

        Raises:     ConfigError when there is none or more than one.
        """
        found = [path.stem for path in self.plans.glob("*.json")]
        matching = [name for name in found if beginning and name.startswith(beginning)]
        if len(matching) != 1:
            raise ConfigError(
                f"{len(matching)} of {len(found)} offered plans begin with {beginning!r}: "
                "see `phoenix-secure site plans`"
            )
        return matching[0]

    def offered(self, plan: str) -> Plan:
        """The offered plan with this hash, read once.

        Raises:     ConfigError, also when the file holds another plan than its name says.
        """
        path = self.plans / f"{plan}.json"
        try:
            found = Plan.from_bytes(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"cannot read {path} ({error.strerror})") from error
        if found.hash != plan:
            raise ConfigError(f"{path} holds another plan than its name says: delete it")
        return found

    def reject(self, plan: str, *, reason: str) -> None:
        """Withdraw the approval of an offered plan, or say that there will be none.

        Guarantee:  recorded in the audit log first; it holds from the next request on.
        Raises:     ConfigError for a reason that is not one line; StorageError.
        """
        if not reason.isprintable() or not 0 < len(reason) <= 500:
            raise ConfigError("the reason must be one line of 1 to 500 characters")
        self.audit().record("rejected", plan=plan, why=reason)
        path = self.approvals / f"{plan}.json"
        with storage_errors(path):
            path.unlink(missing_ok=True)

    def audit(self) -> AuditLog:
        """The site's audit log; a new site's is made.

        Raises:     CheckpointError where it is missing and the site has made promises.
        """
        if not self.audit_file.exists() and has_promises(self.path):
            raise CheckpointError(
                f"{self.audit_file} is missing, and with it what this site knows of its promises: "
                "restore the newest copy; if there is none, `phoenix-secure site close-plans` ends "
                "the plans begun so far, and the site goes on with new ones"
            )
        return AuditLog(self.audit_file)

    def kept_files(self) -> KeptFiles:
        """What this site must never lose, held against its audit log."""
        return KeptFiles(self.path, audit=self.audit())

    def require_open(self, plan: str) -> None:
        """Refuse a plan that ``close_plans`` ended.

        Raises:     ConfigError.
        """
        if plan in self.kept_files().closed:
            raise ConfigError(
                f"plan {plan[:16]} was closed here (`site close-plans`): this site does not know "
                "any more what it promised under it; let the server propose a new one"
            )

    def lost(self) -> list[str]:
        """What this site once had and has no more, in words."""
        if not self.audit_file.exists() and has_promises(self.path):
            return [f"{self.audit_file.name} is missing"]
        return self.kept_files().lost()

    def close_plans(self) -> tuple[str, ...]:
        """End every plan begun so far, after a loss; returns their hashes."""
        # Made where it is missing: the owner says that it is lost.
        return KeptFiles(self.path, audit=AuditLog(self.audit_file)).close_plans()

    def record(self, plan: str) -> SiteRecord:
        """The record of promises under one plan; a plan's first use makes the file."""
        path = self._record_file(plan)
        if not path.exists():
            create_file(path)
        others = SignedModels.open(self.path / "signed-models.jsonl")
        return SiteRecord(path, plan=plan, others=others)

    def has_record(self, plan: str) -> bool:
        """Whether this site was ever ready to train under a plan."""
        return self._record_file(plan).exists()

    def _record_file(self, plan: str) -> Path:
        return self.path / "rounds" / f"{plan}.jsonl"

    def has_promises(self, plan: str) -> bool:
        """Whether this site has taken part in a secure round of ``plan``."""
        path = self.path / "rounds" / f"{plan}.jsonl"
        return path.exists() and path.stat().st_size > 0

    def heads_file(self, plan: str) -> Path:
        """The server's tree heads that this site saw under one plan."""
        return self.path / "heads" / f"{plan}.jsonl"

    def make_folders(self) -> None:
        """The folders that fill up while the site runs."""
        with storage_errors(self.path):
            for folder in (
                self.plans,
                self.approvals,
                self.logs,
                self.path / "rounds",
                self.path / "heads",
            ):
                folder.mkdir(mode=0o700, exist_ok=True)


def read_rosters(folder: Path) -> RosterChain:
    """The rosters in ``roster.bin``, checked against ``federation-owner.pub`` beside it.

    Raises:     ConfigError when either is missing or a signature does not hold.
    """
    owner_key = pinned_owner(folder)
    try:
        return RosterChain.load((folder / "roster.bin").read_bytes(), owner_key=owner_key)
    except OSError as error:
        raise ConfigError(
            f"{folder / 'roster.bin'} is missing: ask the federation's owner"
        ) from error
    except RemoteProtocolError as error:
        raise ConfigError(
            f"{folder / 'roster.bin'} is not signed by the pinned owner ({error.detail}): "
            "compare the fingerprint with the federation's owner"
        ) from error


def pinned_owner(folder: Path) -> bytes:
    """The public key of the federation's owner, as ``folder`` pinned it when it joined.

    Raises:     ConfigError when the file is missing or too short.
    """
    return _public_key(folder / "federation-owner.pub")


def _public_key(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} is missing: restore it from a copy") from error
    if suite_of_key(key) is None:
        raise ConfigError(f"{path} must hold a public key: restore it from a copy")
    return key
