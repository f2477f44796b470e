"""The protocol once more, slow and obvious: plain Python integers, one list of wire messages.

Written from the description in ``docs/protocol.md``, without the package's encodings, key
schedule, field, masks or sessions. From ``cryptography`` it takes the AES block, AES-GCM and
Ed25519; X25519 (RFC 7748), HKDF (RFC 5869), counter mode and Shamir are spelled out here.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

P25519 = 2**255 - 19
P257 = 2**256 + 297
SUITE = b"FSA1/x25519/hkdf-sha256/aes256ctr/aes256gcm/ed25519/p256+297"


def tlv(*fields):
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def u64(value):
    return value.to_bytes(8, "big")


def sha(*fields):
    return hashlib.sha256(tlv(*fields)).digest()


def ids_tlv(ids):
    return tlv(*(id.encode() for id in ids))


def x25519(scalar, u):
    """RFC 7748, section 5: the Montgomery ladder."""
    k = int.from_bytes(scalar, "little") & ((1 << 254) - 8) | (1 << 254)
    x1 = int.from_bytes(u, "little") % (1 << 255) % P25519
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % P25519, x1 * (da - cb) ** 2 % P25519
        x2, z2 = aa * bb % P25519, e * (aa + 121665 * e) % P25519
    if swap:
        x2, x3, z2, z3 = x3, x2, z3, z2
    return (x2 * pow(z2, P25519 - 2, P25519) % P25519).to_bytes(32, "little")


BASE = (9).to_bytes(32, "little")


def hkdf(secret, salt, *info):
    """RFC 5869 for one block of output."""
    pseudo_random_key = hmac.digest(salt, secret, "sha256")
    return hmac.digest(pseudo_random_key, tlv(*info) + b"\x01", "sha256")


def stream(key, count, size):
    """``count`` little-endian words of ``size`` bytes: AES-256 of 0, 1, 2, ... (SP 800-38A)."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - counter by hand
    blocks = -(-count * size // 16)
    data = b"".join(block.update(i.to_bytes(16, "big")) for i in range(blocks))
    return [int.from_bytes(data[i * size : (i + 1) * size], "little") for i in range(count)]


def shamir(secret, points, t, entropy):
    wide = entropy(49 * (t - 1))
    poly = [int.from_bytes(secret, "big")]
    poly += [int.from_bytes(wide[i : i + 49], "big") for i in range(0, len(wide), 49)]
    return {
        x: (sum(a * x**i for i, a in enumerate(poly)) % P257).to_bytes(33, "big") for x in points
    }


def interpolate(shares):
    total = 0
    for x, y in shares.items():
        top = bottom = 1
        for other in shares:
            if other != x:
                top, bottom = top * other, bottom * (other - x)
        total += int.from_bytes(y, "big") * top * pow(bottom, -1, P257)
    return (total % P257).to_bytes(32, "big")


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
        self.context = sha(b"FSA1/context", SUITE, spec_bytes(self.spec))
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
        self.down(spec.cohort, b"FSA1/msg/r0-announcement", spec_bytes(spec))
        u1 = self.alive(spec.cohort, 0)
        a, b, c, s_sk, s_pk, c_pk, adverts = {}, {}, {}, {}, {}, {}, {}
        for u in u1:
            a[u], b[u], c[u] = (self.entropies[u](32) for _ in range(3))
            s_sk[u] = hkdf(a[u], ctx, b"FSA1/mask-x25519")
            s_pk[u], c_pk[u] = x25519(s_sk[u], BASE), x25519(c[u], BASE)
            adverts[u] = self.up(u, b"FSA1/msg/r0-advertise-keys", tlv(s_pk[u], c_pk[u]))
        self.down(u1, b"FSA1/msg/r1-key-directory", tlv(tlv(*(adverts[u] for u in u1))))

        h1 = sha(b"FSA1/h1", ctx, tlv(*(tlv(u.encode(), s_pk[u], c_pk[u]) for u in u1)))
        point = {u: place for place, u in enumerate(spec.cohort, 1)}
        u2 = self.alive(u1, 1)
        a_share, b_share, seed_commitment, delivered = {}, {}, {}, {}
        for u in u2:
            points = [point[v] for v in u1]
            a_share[u] = shamir(a[u], points, spec.threshold, self.entropies[u])
            b_share[u] = shamir(b[u], points, spec.threshold, self.entropies[u])
            seed_commitment[u] = sha(b"FSA1/commit-seed", ctx, u.encode(), b[u])
            items = []
            for v in u1:
                shares = a_share[u][point[v]], b_share[u][point[v]]
                ends = u.encode(), v.encode()
                commit = [
                    sha(b"FSA1/commit-share", ctx, *ends, kind, share)
                    for kind, share in zip((b"a", b"b"), shares, strict=True)
                ]
                sealed = b""
                if v != u:
                    key = hkdf(
                        x25519(c[u], c_pk[v]), h1, b"FSA1/share-chan", *ends, c_pk[u], c_pk[v]
                    )
                    nonce = self.entropies[u](12)
                    bound = tlv(b"FSA1/share-seal", h1, *ends, tlv(*commit, seed_commitment[u]))
                    sealed = nonce + AESGCM(key).encrypt(nonce, b"".join(shares), bound)
                    delivered[u, v] = tlv(u.encode(), *commit, seed_commitment[u], sealed)
                items.append(tlv(v.encode(), *commit, sealed))
            self.up(u, b"FSA1/msg/r1-share-keys", tlv(h1, seed_commitment[u], tlv(*items)))
        for v in u2:
            items = tlv(*(delivered[u, v] for u in u2 if u != v))
            self.down([v], b"FSA1/msg/r2-share-delivery", tlv(ids_tlv(u2), items))

        h2 = sha(b"FSA1/h2", h1, ids_tlv(u2))
        u3 = self.alive(u2, 2)
        size = {16: 2, 24: 4, 32: 4}[spec.word_bits]
        modulus, count = 1 << spec.word_bits, spec.total_words
        self_mask = {
            u: stream(hkdf(b[u], h2, b"FSA1/mask-self", u.encode()), count, size) for u in u3
        }

        def pair_mask(u, v):
            low, high = sorted((u, v))
            info = low.encode(), high.encode(), s_pk[low], s_pk[high]
            key = hkdf(x25519(s_sk[u], s_pk[v]), h2, b"FSA1/mask-pair", *info)
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
            self.up(u, b"FSA1/msg/r2-masked-input", tlv(h2, packed))
        self.down(u3, b"FSA1/msg/r3-survivor-list", tlv(h2, ids_tlv(u3)))

        u4 = self.alive(u3, 3)
        for u in u4:
            self.up(u, b"FSA1/msg/r3-consistency", tlv(h2, ids_tlv(u3)))
        signed = tlv(tlv(*(tlv(u.encode(), self.signatures[u]) for u in u4)))
        self.down(u4, b"FSA1/msg/r4-signature-quorum", signed)

        u5 = self.alive(u4, 4)
        for u in u5:
            items = [
                tlv(
                    v.encode(),
                    *((b"b", b_share[v][point[u]]) if v in u3 else (b"a", a_share[v][point[u]])),
                )
                for v in u2
            ]
            self.up(u, b"FSA1/msg/r4-unmask", tlv(h2, tlv(*items)))
        holders = [point[u] for u in u5[: spec.threshold]]
        for v in u2:
            if v in u3:
                seed = interpolate({x: b_share[v][x] for x in holders})
                key = hkdf(seed, h2, b"FSA1/mask-self", v.encode())
                total = [x - m for x, m in zip(total, stream(key, count, size), strict=True)]
            else:
                seed = interpolate({x: a_share[v][x] for x in holders})
                assert hkdf(seed, ctx, b"FSA1/mask-x25519") == s_sk[v]
                for u in u3:
                    sign = 1 if u < v else -1
                    mask = pair_mask(v, u)
                    total = [x - sign * m for x, m in zip(total, mask, strict=True)]
        total = [x % modulus for x in total]
        packed = b"".join(x.to_bytes(spec.word_bits // 8, "little") for x in total)
        digest = hashlib.sha256(tlv(b"FSA1/sum") + packed).digest()
        self.down(u4, b"FSA1/msg/r5-result", tlv(h2, ids_tlv(u3), digest))
        self.transcript_hash = sha(b"FSA1/transcript", ctx, h2, ids_tlv(u3), digest)
        return self.wire, total
