"""Certificate signing requests: a party proves that it holds the TLS key to be certified.

The authority takes the public key from a request and nothing else: names, purposes and validity
are its own. The names are in the request all the same, and must be right, so that one that was
made for another party or federation is of no use.

Source: RFC 2986 (PKCS #10).
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from phoenix_secure.federation.deployment.certificates import server_alternatives

__all__ = ["MAX_SIZE", "make_signing_request", "open_signing_request"]

MAX_SIZE = 2048


def make_signing_request(
    key: ec.EllipticCurvePrivateKey, *, party: str, federation: str, host: str | None = None
) -> bytes:
    """The request (DER) of ``party`` for its certificate; a server names its ``host``."""
    unsigned = x509.CertificateSigningRequestBuilder().subject_name(_subject(party, federation))
    if host is not None:
        unsigned = unsigned.add_extension(server_alternatives([host]), critical=False)
    return unsigned.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def open_signing_request(
    data: bytes, *, party: str, federation: str, host: str | None = None
) -> ec.EllipticCurvePublicKey:
    """The key in a request that is exactly what ``make_signing_request`` makes.

    Raises:     ValueError with what is wrong.
    """
    try:
        request = x509.load_der_x509_csr(data)
        key = request.public_key()
        is_signed = request.is_signature_valid
        extensions = [extension.value for extension in request.extensions]
        algorithm, attributes = request.signature_hash_algorithm, len(list(request.attributes))
    except Exception as error:  # a parser of strangers' bytes: whatever it raises, it is refused
        raise ValueError("the certificate signing request cannot be read") from error
    if not is_signed:
        raise ValueError("the certificate signing request is not signed by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("the TLS key is not on the curve P-256")
    expected = [] if host is None else [server_alternatives([host])]
    if (
        request.subject != _subject(party, federation)
        or extensions != expected
        or attributes != len(expected)
        or not isinstance(algorithm, hashes.SHA256)
    ):
        raise ValueError("the certificate signing request is of another party, federation or host")
    return key


def _subject(party: str, federation: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, federation),
            x509.NameAttribute(NameOID.COMMON_NAME, party),
        ]
    )
