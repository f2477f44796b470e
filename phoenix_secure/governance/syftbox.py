"""Jobs in a SyftBox, through ``syft_job``: submit, list, accept, reject.

::

    SYFTBOX/OWNER/app_data/job/inbox/COORDINATOR/v1/NAME/     code/, run.sh, config.yaml
    SYFTBOX/OWNER/app_data/job/review/COORDINATOR/v1/NAME/    state.yaml, outputs/

OWNER and COORDINATOR are e-mail addresses, or look like one: on a folder they prove nothing.
An accepted job goes from pending to done in one step, with the signed consent as its result. It is
never "approved" in PySyft's sense, because PySyft's runner would then run the submitter's run.sh.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from syft_job.client import JobClient
from syft_job.config import SyftJobConfig
from syft_job.job import JobInfo
from syft_job.job_ref import JobRef
from syft_job.migrations.registry import JOB_PROTOCOL_VERSION
from syft_job.models import JobStatus

from phoenix_secure.errors import ConfigError
from phoenix_secure.files import storage_errors, write_bytes
from phoenix_secure.governance.names import is_name
from phoenix_secure.governance.submission import Submission

__all__ = ["CONSENT", "Job", "OwnerBox", "default_address", "job_exists", "submit_job"]

CONSENT = "consent.json"
_MAX_STATE_BYTES = 1 << 16
# What PySyft would install for the script that nobody runs; else it guesses, aloud.
_INSTALL = "syft==0.10.0"


@dataclass(frozen=True, slots=True)
class Job:
    """One job of the coordinator in the owner's inbox."""

    ref: JobRef

    @property
    def name(self) -> str:
        return str(self.ref.job_name)


def default_address(name: str, *, federation: str) -> str:
    """The address of a party of the federation that has none in PySyft.

    >>> default_address("clinic", federation="chest_xray")
    'clinic@chest-xray.invalid'
    """
    return f"{name}@{federation.replace('_', '-')}.invalid"


def job_exists(root: Path, *, coordinator: str, owner: str, name: str) -> bool:
    """Whether ``owner`` has a job of that name from ``coordinator``, whole or not."""
    config = SyftJobConfig(syftbox_folder=root.resolve(), current_user_email=coordinator)
    return bool(config.get_job_submission_dir(owner, coordinator, name).exists())


def submit_job(
    root: Path, files: Mapping[str, bytes], *, coordinator: str, owner: str, name: str
) -> Path:
    """Put ``files`` before ``owner`` as the code of a PySyft job, and return the job's folder.

    Raises:     ConfigError when the owner has a job of that name meanwhile; StorageError.
    """
    with storage_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        client = _client(root, coordinator, is_owner=False)
        client.peer_install_sources[owner] = _INSTALL
        with tempfile.TemporaryDirectory() as scratch:
            for file, content in files.items():
                (Path(scratch) / file).write_bytes(content)
            try:
                with _silence():
                    return Path(client.submit_python_job(owner, scratch, job_name=name))
            except FileExistsError as error:
                raise ConfigError(f"{owner} already has the proposal {name}") from error


class OwnerBox:
    """The owner's side: what ``coordinator`` proposed, and what became of it.

    Raises:     ConfigError when the SyftBox is not there.
    """

    def __init__(self, root: Path, *, owner: str, coordinator: str) -> None:
        if not root.is_dir():
            raise ConfigError(f"syft.folder {root} is missing: make it, or let PySyft sync it")
        self._client = _client(root, owner, is_owner=True)
        self._storage = self._client.manager
        self._owner = owner
        self._coordinator = coordinator

    @property
    def coordinator(self) -> str:
        return self._coordinator

    def open_inbox(self) -> None:
        """Give the coordinator PySyft's permission to submit jobs here and to read what came of
        them; PySyft's own transport asks for it, a plain folder does not.
        """
        with _silence():
            self._client.setup_ds_job_folder_as_do(self._coordinator)

    def jobs(self) -> list[Job]:
        """All jobs of the coordinator whose names can be shown, oldest name first."""
        return [
            Job(ref)
            for ref in self._storage.iter_submission_refs(self._owner)
            if ref.ds_email == self._coordinator
            and ref.protocol_version == JOB_PROTOCOL_VERSION
            and is_name(ref.job_name)
        ]

    def job(self, name: str) -> Job | None:
        """The coordinator's job called ``name``; found without a look at the others, of which
        anybody may have put thousands there.
        """
        ref = JobRef(self._owner, self._coordinator, name, JOB_PROTOCOL_VERSION)
        if not is_name(name) or not Path(self._storage.submission_dir(ref)).exists():
            return None
        return Job(ref)

    def submission(self, job: Job) -> Submission:
        """The job's files as they are now.

        Raises:     ConfigError, as ``Submission.read``.
        """
        return Submission.read(Path(self._storage.submission_dir(job.ref)))

    def status(self, job: Job) -> str:
        """The status in PySyft's unsigned record: received, pending, done, rejected or unreadable.

        A job that somebody else marked done counts as unreadable: only the owner accepts.
        """
        path = Path(self._storage.review_dir(job.ref)) / "state.yaml"
        try:
            if path.is_symlink() or path.stat().st_size > _MAX_STATE_BYTES:
                return "unreadable"
            state = self._storage.read_state(job.ref)
        except FileNotFoundError:
            return "received"
        except Exception:  # whatever PySyft's readers raise over hostile bytes: not accepted
            return "unreadable"
        if state.status == JobStatus.DONE and state.approved_by != self._owner:
            return "unreadable"
        return str(state.status.value)

    def accept(self, job: Job, *, consent: bytes, digest: str) -> None:
        """Mark the job done with ``consent`` as its result; again for one that is done.

        Raises:     ConfigError for a job in any other state.
        """
        status = self._receive(job)
        if status == "pending":
            with tempfile.TemporaryDirectory() as scratch:
                result = Path(scratch) / CONSENT
                result.write_bytes(consent)
                with _silence():
                    self._info(job).accept_by_depositing_result(str(result))
        elif status == "done":
            write_bytes(Path(self._storage.review_dir(job.ref)) / "outputs" / CONSENT, consent)
        else:
            raise ConfigError(
                f"PySyft's record of {job.name} says {status}: ask the coordinator for a new "
                "proposal, under another name"
            )
        state = self._storage.read_state(job.ref)
        state.approval_method = "manual"
        state.review_reason = f"sha256:{digest}"
        self._storage.write_state(job.ref, state)

    def reject(self, job: Job, *, reason: str) -> None:
        """Mark the job rejected, also one that was accepted; ``reason`` is for the coordinator."""
        if self._receive(job) == "pending":
            with _silence():
                self._info(job).reject(reason)
            return
        try:
            state = self._storage.read_state(job.ref)
        except Exception:  # damaged: the new record takes its place
            state = self._client.receive_job(
                job.ref.ds_email, job.ref.job_name, job.ref.protocol_version
            )
        state.status = JobStatus.REJECTED
        state.rejected_by = self._owner
        state.review_reason = reason
        self._storage.write_state(job.ref, state)
        (Path(self._storage.review_dir(job.ref)) / "outputs" / CONSENT).unlink(missing_ok=True)

    def _receive(self, job: Job) -> str:
        """The job's status, after PySyft has looked at a new job's form."""
        if self.status(job) == "received":
            ref = job.ref
            self._client.receive_job(ref.ds_email, ref.job_name, ref.protocol_version)
        return self.status(job)

    def _info(self, job: Job) -> JobInfo:
        try:
            metadata = self._storage.read_submission(job.ref)
        except Exception as error:
            raise ConfigError(f"PySyft cannot read config.yaml of {job.name}") from error
        return JobInfo(
            job_metadata=metadata,
            state=self._storage.read_state(job.ref),
            current_user_email=self._owner,
            client=self._client,
            ref=job.ref,
        )


def _client(root: Path, address: str, *, is_owner: bool) -> JobClient:
    config = SyftJobConfig(
        syftbox_folder=root.resolve(), current_user_email=address, has_do_role=is_owner
    )
    with _silence():
        return JobClient(config)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """PySyft prints; what a command prints is decided in ``cli``."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
