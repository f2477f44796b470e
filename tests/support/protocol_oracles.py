"""The protocol once more, slow and obvious: plain Python integers, one list of wire messages.

Written from the description in ``docs/protocol.md``, without the package's encodings, key
schedule, field, masks or sessions. From ``cryptography`` it takes the AES block, AES-GCM and
Ed25519; the group (RFC 8032), HKDF (RFC 5869), counter mode, Shamir and the proof of a dealing are
spelled out here.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

P25519 = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D25519 = -121665 * pow(121666, -1, P25519) % P25519
_Y = 4 * pow(5, -1, P25519) % P25519
# The x of the base point is the even root of (y^2 - 1) / (d y^2 + 1).
_X2 = (_Y * _Y - 1) * pow(D25519 * _Y * _Y + 1, -1, P25519) % P25519
_X = pow(_X2, (P25519 + 3) // 8, P25519)
_X = _X if _X * _X % P25519 == _X2 else _X * pow(2, (P25519 - 1) // 4, P25519) % P25519
BASE = (_X if _X % 2 == 0 else P25519 - _X, _Y)
SUITE = b"FSA2/edwards25519/hkdf-sha256/aes256ctr/aes256gcm/ed25519/hash-vss"


def tlv(*fields):
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def u64(value):
    return value.to_bytes(8, "big")


def sha(*fields):
    return hashlib.sha256(tlv(*fields)).digest()


def ids_tlv(ids):
    return tlv(*(id.encode() for id in ids))


def add(p, q):
    """RFC 8032, section 5.1.4, in affine coordinates: the complete addition law."""
    (x1, y1), (x2, y2) = p, q
    t = D25519 * x1 * x2 * y1 * y2
    x3 = (x1 * y2 + x2 * y1) * pow(1 + t, -1, P25519)
    y3 = (y1 * y2 + x1 * x2) * pow(1 - t, -1, P25519)
    return x3 % P25519, y3 % P25519


@functools.cache
def doublings(point):
    """2^i times the point for each bit of a scalar."""
    powers = [point]
    for _ in range(255):
        powers.append(add(powers[-1], powers[-1]))
    return powers


@functools.cache
def times(scalar, point):
    """Double and add."""
    total = (0, 1)
    for i, power in enumerate(doublings(point)):
        if scalar >> i & 1:
            total = add(total, power)
    return total


def point_bytes(point):
    """RFC 8032, section 5.1.2."""
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def scalar(number):
    return (number % ORDER).to_bytes(32, "little")


def hkdf(secret, salt, *info):
    """RFC 5869 for one block of output."""
    pseudo_random_key = hmac.digest(salt, secret, "sha256")
    return hmac.digest(pseudo_random_key, tlv(*info) + b"\x01", "sha256")


def secret(seed, context, label):
    """A scalar from two blocks of HKDF."""
    pseudo_random_key = hmac.digest(context, seed, "sha256")
    first = hmac.digest(pseudo_random_key, tlv(label) + b"\x01", "sha256")
    second = hmac.digest(pseudo_random_key, first + tlv(label) + b"\x02", "sha256")
    return int.from_bytes(first + second, "little") % ORDER


def stream(key, count, size):
    """``count`` little-endian words of ``size`` bytes: AES-256 of 0, 1, 2, ... (SP 800-38A)."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - counter by hand
    blocks = -(-count * size // 16)
    data = b"".join(block.update(i.to_bytes(16, "big")) for i in range(blocks))
    return [int.from_bytes(data[i * size : (i + 1) * size], "little") for i in range(count)]


def wide(entropy, count):
    data = entropy(48 * count)
    return [int.from_bytes(data[i : i + 48], "little") for i in range(0, len(data), 48)]


def at(poly, x):
    return sum(a * x**i for i, a in enumerate(poly)) % ORDER


def interpolate(shares):
    total = 0
    for x, y in shares.items():
        top = bottom = 1
        for other in shares:
            if other != x:
                top, bottom = top * other, bottom * (other - x)
        total += y * top * pow(bottom, -1, ORDER)
    return total % ORDER


def tree(items):
    """The root over ``items`` and each item's path, level by level."""
    nodes = [(sha(b"FSA2/dealt-item", item), [place]) for place, item in enumerate(items)]
    paths = [b""] * len(items)
    while len(nodes) > 1:
        above = []
        for start in range(0, len(nodes), 2):
            if start + 1 == len(nodes):
                above.append(nodes[start])
                continue
            (left, under_left), (right, under_right) = nodes[start : start + 2]
            for place in under_left:
                paths[place] += b"\x00" + right
            for place in under_right:
                paths[place] += b"\x01" + left
            above.append((sha(b"FSA2/dealt-node", left, right), under_left + under_right))
        nodes = above
    return nodes[0][0], paths


def envelope(identity, label, context, body):
    key = Ed25519PrivateKey.from_private_bytes(identity.export_seed())
    who = identity.id.encode()
    signature = key.sign(tlv(label, context, who, hashlib.sha256(body).digest()))
    return tlv(label, context, who, signature, body), signature


def spec_bytes(s):
    return tlv(
        s.federation_id.encode(),
        u64(s.round),
        u64(s.attempt),
        s.roster_hash,
        ids_tlv(s.cohort),
        s.model_hash,
        s.previous,
        u64(s.num_words),
        tlv(*(u64(bound) for bound in s.extra_bounds)),
        u64(s.word_bits),
        struct.pack(">d", s.scale),
        struct.pack(">d", s.clip),
        u64(s.threshold),
        u64(s.quorum),
        u64(s.num_colluders),
        u64(s.degree),
        struct.pack(">d", s.noise_variance),
        s.privacy_hash,
        s.policy_hash,
    )


class Oracle:
    """One round on the complete graph; ``absent`` maps a stage to who vanishes there."""

    def __init__(self, federation, entropies, absent):
        self.f, self.spec = federation, federation.spec
        self.entropies, self.absent = entropies, absent
        self.context = sha(b"FSA2/context", SUITE, spec_bytes(self.spec))
        self.gone = set()
        self.wire = []
        self.signatures = {}

    def down(self, ids, label, body):
        data, _ = envelope(self.f.server_identity, label, self.context, body)
        self.wire += [("server", id, data) for id in ids]

    def up(self, id, label, body):
        data, self.signatures[id] = envelope(self.f.identities[id], label, self.context, body)
        self.wire.append((id, "server", data))
        return data

    def alive(self, ids, stage):
        self.gone |= set(self.absent.get(stage, ()))
        return [id for id in ids if id not in self.gone]

    def run(self):
        """Every message of the round in order, then the sum as integers modulo 2^b."""
        spec, ctx = self.spec, self.context
        self.down(spec.cohort, b"FSA2/msg/r0-announcement", spec_bytes(spec))
        u1 = self.alive(spec.cohort, 0)
        a, b, c, s_pk, c_pk, adverts = {}, {}, {}, {}, {}, {}
        for u in u1:
            seeds = [self.entropies[u](32) for _ in range(3)]
            labels = b"FSA2/mask-secret", b"FSA2/self-secret", b"FSA2/channel-secret"
            a[u], b[u], c[u] = (secret(s, ctx, x) for s, x in zip(seeds, labels, strict=True))
            s_pk[u], c_pk[u] = point_bytes(times(a[u], BASE)), point_bytes(times(c[u], BASE))
            adverts[u] = self.up(u, b"FSA2/msg/r0-advertise-keys", tlv(s_pk[u], c_pk[u]))
        self.down(u1, b"FSA2/msg/r1-key-directory", tlv(tlv(*(adverts[u] for u in u1))))

        h1 = sha(b"FSA2/h1", ctx, tlv(*(tlv(u.encode(), s_pk[u], c_pk[u]) for u in u1)))
        point = {u: place for place, u in enumerate(spec.cohort, 1)}
        u2 = self.alive(u1, 1)
        a_share, b_share, delivered = {}, {}, {}
        for u in u2:
            f_a, r_a, f_b, r_b = (
                poly
                for first in (a[u], b[u])
                for poly in (
                    [first, *wide(self.entropies[u], spec.threshold - 1)],
                    wide(self.entropies[u], spec.threshold),
                )
            )
            a_share[u] = {point[v]: at(f_a, point[v]) for v in u1}
            b_share[u] = {point[v]: at(f_b, point[v]) for v in u1}
            commits = {
                v: [
                    sha(
                        b"FSA2/commit-share",
                        *(ctx, u.encode(), v.encode(), kind),
                        *(scalar(at(poly, point[v])) for poly in pair),
                    )
                    for kind, pair in ((b"a", (f_a, r_a)), (b"b", (f_b, r_b)))
                ]
                for v in u1
            }
            publics = [point_bytes(times(x % ORDER, BASE)) for x in (a[u], b[u], r_a[0], r_b[0])]
            hashed = hashlib.sha512(
                tlv(
                    *(b"FSA2/dealing-challenge", ctx, h1, u.encode(), tlv(*publics)),
                    tlv(*(tlv(v.encode(), *commits[v]) for v in u1)),
                )
            )
            d = int.from_bytes(hashed.digest(), "little") % ORDER

            def responses(x, d=d, f_a=f_a, r_a=r_a, f_b=f_b, r_b=r_b):
                return scalar(at(r_a, x) + d * at(f_a, x)), scalar(at(r_b, x) + d * at(f_b, x))

            items = []
            for v in u1:
                shares = scalar(at(f_a, point[v])) + scalar(at(f_b, point[v]))
                ends = u.encode(), v.encode()
                sealed = b""
                if v != u:
                    key = hkdf(
                        point_bytes(times(c[u] * c[v] % ORDER, BASE)),
                        h1,
                        *(b"FSA2/share-chan", *ends, c_pk[u], c_pk[v]),
                    )
                    nonce = self.entropies[u](12)
                    bound = tlv(b"FSA2/share-seal", h1, *ends, tlv(*commits[v], publics[1]))
                    sealed = nonce + AESGCM(key).encrypt(nonce, shares, bound)
                items.append(tlv(v.encode(), *commits[v], *responses(point[v]), sealed))
            root, paths = tree(items)
            fields = h1, publics[1], scalar(d), *responses(0), root
            signing = Ed25519PrivateKey.from_private_bytes(self.f.identities[u].export_seed())
            digest = hashlib.sha256(tlv(*fields)).digest()
            head = tlv(*fields, signing.sign(tlv(b"FSA2/msg/r1-dealing", ctx, u.encode(), digest)))
            for v, item, path in zip(u1, items, paths, strict=True):
                delivered[u, v] = tlv(u.encode(), head, item, path)
            self.up(u, b"FSA2/msg/r1-share-keys", tlv(head, tlv(*items)))
        for v in u2:
            items = tlv(*(delivered[u, v] for u in u2 if u != v))
            self.down([v], b"FSA2/msg/r2-share-delivery", tlv(ids_tlv(u2), items))

        h2 = sha(b"FSA2/h2", h1, ids_tlv(u2))
        u3 = self.alive(u2, 2)
        size = {16: 2, 24: 4, 32: 4}[spec.word_bits]
        modulus, count = 1 << spec.word_bits, spec.total_words
        self_mask = {
            u: stream(hkdf(scalar(b[u]), h2, b"FSA2/mask-self", u.encode()), count, size)
            for u in u3
        }

        def pair_mask(u, v):
            low, high = sorted((u, v))
            info = low.encode(), high.encode(), s_pk[low], s_pk[high]
            key = hkdf(point_bytes(times(a[u] * a[v] % ORDER, BASE)), h2, b"FSA2/mask-pair", *info)
            return stream(key, count, size)

        total = [0] * count
        for u in u3:
            noise = self.f.noise(u)
            y = [int(word) for word in self.f.words(u)] + list(self.f.extra_words(u))
            for j in range(spec.num_words if noise is not None else 0):
                y[j] += int(noise[j])
            y = [x + m for x, m in zip(y, self_mask[u], strict=True)]
            for v in u2:
                if v != u:
                    sign = 1 if u < v else -1
                    y = [x + sign * m for x, m in zip(y, pair_mask(u, v), strict=True)]
            y = [x % modulus for x in y]
            total = [x + m for x, m in zip(total, y, strict=True)]
            packed = b"".join(x.to_bytes(spec.word_bits // 8, "little") for x in y)
            self.up(u, b"FSA2/msg/r2-masked-input", tlv(h2, packed))
        self.down(u3, b"FSA2/msg/r3-survivor-list", tlv(h2, ids_tlv(u3)))

        u4 = self.alive(u3, 3)
        for u in u4:
            self.up(u, b"FSA2/msg/r3-consistency", tlv(h2, ids_tlv(u3)))
        signed = tlv(tlv(*(tlv(u.encode(), self.signatures[u]) for u in u4)))
        self.down(u4, b"FSA2/msg/r4-signature-quorum", signed)

        u5 = self.alive(u4, 4)
        for u in u5:
            items = [
                tlv(
                    v.encode(),
                    *(
                        (b"b", scalar(b_share[v][point[u]]))
                        if v in u3
                        else (b"a", scalar(a_share[v][point[u]]))
                    ),
                )
                for v in u2
            ]
            self.up(u, b"FSA2/msg/r4-unmask", tlv(h2, tlv(*items)))
        holders = [point[u] for u in u5[: spec.threshold]]
        for v in u2:
            if v in u3:
                found = interpolate({x: b_share[v][x] for x in holders})
                key = hkdf(scalar(found), h2, b"FSA2/mask-self", v.encode())
                total = [x - m for x, m in zip(total, stream(key, count, size), strict=True)]
            else:
                assert interpolate({x: a_share[v][x] for x in holders}) == a[v]
                for u in u3:
                    sign = 1 if u < v else -1
                    mask = pair_mask(v, u)
                    total = [x - sign * m for x, m in zip(total, mask, strict=True)]
        total = [x % modulus for x in total]
        packed = b"".join(x.to_bytes(spec.word_bits // 8, "little") for x in total)
        digest = hashlib.sha256(tlv(b"FSA2/sum") + packed).digest()
        self.down(u4, b"FSA2/msg/r5-result", tlv(h2, ids_tlv(u3), digest))
        self.transcript_hash = sha(b"FSA2/transcript", ctx, h2, ids_tlv(u3), digest)
        return self.wire, total
