"""Time stamps of a third party: a service signs that the envelope existed at a time.

The service sees a hash of the envelope and a random number, and nothing of the report. It is asked
only where somebody named its address.

Source: RFC 3161; read and checked by rfc3161-client, which the extra ``timestamp`` installs.
"""

from __future__ import annotations

import datetime
import hashlib
import urllib.request
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from cryptography import x509

from phoenix_secure.errors import ConfigError, PhoenixError
from phoenix_secure.files import storage_errors, write_bytes

__all__ = [
    "STAMP",
    "BadStamp",
    "Certificates",
    "Stamp",
    "can_check_stamps",
    "check_address",
    "check_stamp",
    "fetch_stamp",
    "read_certificates",
    "stamp_path",
    "stamp_report",
]

STAMP = "report.tsr"  # of report.json: the service's whole answer, DER

_TIMEOUT_S = 30.0
_MAX_BYTES = 1 << 16
_DIGESTS = {"2.16.840.1.101.3.4.2.1": "sha256", "2.16.840.1.101.3.4.2.3": "sha512"}
_QUERY, _REPLY = "application/timestamp-query", "application/timestamp-reply"
_EXTRA = "time stamps need the extra timestamp: pip install 'phoenix-secure[timestamp]'"


class BadStamp(PhoenixError):  # noqa: N818
    """The time stamp is not one, is of other bytes, or is not signed by a pinned certificate."""

    exit_code = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """The time (UTC) at which the bytes existed, and the subject of the service's certificate."""

    time: datetime.datetime
    service: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificates:
    """What a reader pins: at least one root; ``own`` is the service's, where it is pinned too."""

    roots: tuple[x509.Certificate, ...]
    intermediate: tuple[x509.Certificate, ...]
    own: tuple[x509.Certificate, ...]


def can_check_stamps() -> bool:
    """The extra ``timestamp`` is installed."""
    try:
        _library()
    except ConfigError:
        return False
    return True


def check_address(url: str) -> None:
    """Refuse what ``fetch_stamp`` would, before there is anything to stamp.

    Raises:     ConfigError naming the option or the extra.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ConfigError(f"--timestamp {url!r}: expected an http or https address")
    _library()


def fetch_stamp(content: bytes, *, url: str) -> bytes:
    """The answer of the service at ``url`` about ``content``, for ``check_stamp`` to check.

    Guarantee:  nothing but this address is contacted: redirections are refused. The answer is of
                these bytes and of this question; who signed it is not checked here.
    Raises:     ConfigError for an address that cannot be asked, and without the extra;
                BadStamp when the service does not answer, refuses, or answers something else.
    """
    check_address(url)
    library = _library()
    builder = library.TimestampRequestBuilder().data(content)
    request = builder.hash_algorithm(library.HashAlgorithm.SHA256).build()
    answer = _ask(url, request.as_bytes())
    _, info = _read(answer, content)
    if info.nonce != request.nonce:
        raise BadStamp(f"the service at {url} answered another question: ask again")
    return answer


def check_stamp(answer: bytes, content: bytes, *, certificates: bytes | None) -> Stamp:
    """The time at which ``content`` existed, by the word of the service.

    certificates   PEM: the service's root, with intermediate ones or its own where it sends none;
                   None checks that the stamp is of ``content``, and not who signed it

    Guarantee:  with certificates: one of them, or one that they vouch for, signed; it was valid at
                that time, and made for time stamps alone.
    Raises:     BadStamp; ConfigError for certificates that are none, and without the extra.
    """
    response, info = _read(answer, content)
    if certificates is None:
        return Stamp(time=info.gen_time, service="")
    verifier = _verifier(certificates)
    try:
        verifier.verify_message(response, content)
    except _library().VerificationError as error:
        raise BadStamp(f"the time stamp does not hold: {error}") from error
    return Stamp(time=info.gen_time, service=_signer(response))


def stamp_path(report: Path) -> Path:
    """Where the stamp of the report.json at ``report`` lies."""
    return report.with_suffix(".tsr")


def stamp_report(report: Path, *, url: str) -> Stamp:
    """Have the service at ``url`` stamp the envelope of ``report``; its answer is kept beside it.

    Raises:     as ``fetch_stamp``; StorageError. Then a stamp of before stays.
    """
    envelope = report.with_suffix(".dsse.json")
    with storage_errors(envelope):
        content = envelope.read_bytes()
    answer = fetch_stamp(content, url=url)
    write_bytes(stamp_path(report), answer)
    return check_stamp(answer, content, certificates=None)


def read_certificates(pem: bytes) -> Certificates:
    """Root, intermediate and own certificates, told apart by what they say of themselves.

    Raises:     ConfigError for a file without certificates, without a root, or of two services.
    """
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ConfigError("--tsa-certificate: expected certificates in PEM") from error
    roots = tuple(each for each in found if each.issuer == each.subject)
    others = [each for each in found if each.issuer != each.subject]
    own = tuple(each for each in others if not _is_authority(each))
    if not roots or len(own) > 1:
        raise ConfigError(
            "--tsa-certificate: expected the root that the service's certificate leads to, and at "
            "most one certificate of the service itself"
        )
    intermediate = tuple(each for each in others if each not in own)
    return Certificates(roots=roots, intermediate=intermediate, own=own)


def _read(answer: bytes, content: bytes) -> tuple[Any, Any]:
    """The answer, and what it says; of ``content``, whoever signed it."""
    library = _library()
    try:
        response = library.decode_timestamp_response(answer)
        granted = library.PKIStatus(response.status) == library.PKIStatus.GRANTED
        info = response.tst_info if granted else None
    except ValueError as error:
        raise BadStamp("not an RFC 3161 time stamp in DER") from error
    if info is None:
        raise BadStamp("the service refused to stamp: " + "; ".join(response.status_string))
    name = _DIGESTS.get(info.message_imprint.hash_algorithm.dotted_string)
    if name is None or hashlib.new(name, content).digest() != info.message_imprint.message:
        raise BadStamp("the time stamp is of other bytes than the signature beside it")
    return response, info


def _signer(response: Any) -> str:
    """The subject of the certificate that signed, or its issuer where the answer holds none."""
    (signer,) = response.signed_data.signer_infos
    for content in response.signed_data.certificates:
        found = x509.load_der_x509_certificate(content)
        if (found.issuer, found.serial_number) == (signer.issuer, signer.serial_number):
            return str(found.subject.rfc4514_string())
    return f"a certificate of {signer.issuer.rfc4514_string()}"


def _verifier(certificates: bytes) -> Any:
    found = read_certificates(certificates)
    builder = _library().VerifierBuilder()
    for each in found.roots:
        builder = builder.add_root_certificate(each)
    for each in found.intermediate:
        builder = builder.add_intermediate_certificate(each)
    for each in found.own:
        builder = builder.tsa_certificate(each)
    return builder.build()


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _ask(url: str, question: bytes) -> bytes:
    opener = urllib.request.build_opener(_NoRedirection)
    headers = {"Content-Type": _QUERY, "Accept": _REPLY}
    request = urllib.request.Request(url, data=question, headers=headers)  # noqa: S310 - http(s)
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as reply:
            answer: bytes = reply.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise BadStamp(f"the service at {url} gave no time stamp ({reason})") from error
    if len(answer) > _MAX_BYTES:
        raise BadStamp(f"the service at {url} answered more than a time stamp")
    return answer


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> None:
        return None


def _library() -> Any:
    try:
        import rfc3161_client
    except ImportError as error:
        raise ConfigError(_EXTRA) from error
    return rfc3161_client
