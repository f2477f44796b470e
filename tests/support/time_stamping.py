"""A time-stamping service of our own: certificates, `openssl ts`, and a server on loopback."""

from __future__ import annotations

import datetime
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = datetime.timedelta(days=1)
_CONFIG = """
[tsa]
default_tsa = own
[own]
serial = {folder}/serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
"""


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    by: tuple[str, ec.EllipticCurvePrivateKey],
    is_authority: bool = True,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    issuer, issuer_key = by
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if not is_authority:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        builder = builder.add_extension(purpose, critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeStampingService:
    """Key and certificate of a service in ``folder``, and the PEM file of the root that vouches."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root.pem"

    @classmethod
    def create(
        cls, folder: Path, *, root: str = "Root of tests", has_intermediate: bool = False
    ) -> TimeStampingService:
        """A certificate for time stamps by ``root``, or by an intermediate one that is sent along.

        DER sorts certificates, shorter ones first, and ``openssl ts`` sends the service's own one
        first. Where the root's name is long the intermediate one is longer, and its place is right.
        """
        folder.mkdir()
        root_key, between_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        top = _certificate(root, root_key, by=(root, root_key))
        chain, issuer = b"", (root, root_key)
        if has_intermediate:
            issuer = ("Between", between_key)
            between = _certificate("Between", between_key, by=(root, root_key))
            chain = between.public_bytes(serialization.Encoding.PEM)
        own = _certificate("Clock of tests", key, by=issuer, is_authority=False)
        pem = serialization.Encoding.PEM
        (folder / "root.pem").write_bytes(top.public_bytes(pem))
        (folder / "chain.pem").write_bytes(chain)
        (folder / "own.pem").write_bytes(own.public_bytes(pem))
        (folder / "own.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        (folder / "serial").write_text("01\n")
        (folder / "ts.conf").write_text(_CONFIG.format(folder=folder))
        return cls(folder=folder)

    def answer(self, question: bytes) -> bytes:
        """What the service says to a query: `openssl ts -reply`."""
        (self.folder / "question.tsq").write_bytes(question)
        command = ["openssl", "ts", "-reply", "-queryfile", "question.tsq", "-config", "ts.conf"]
        if (self.folder / "chain.pem").stat().st_size:
            command += ["-chain", "chain.pem"]
        command += ["-signer", "own.pem", "-inkey", "own.key", "-out", "answer.tsr"]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True, timeout=60)
        return (self.folder / "answer.tsr").read_bytes()


@contextmanager
def served(answer: Callable[[bytes], bytes], *, status: int = 200) -> Iterator[str]:
    """The address of a server on loopback that answers queries with ``answer``."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/timestamp-query"
            content = answer(question)
            self.send_response(status)
            if status in (301, 302):
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/tsa"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
