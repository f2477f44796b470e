"""From a model update to the integers that are summed, and from their sum to the mean update.

::

    x_k = round_stochastic(scale * w_k * clip(Delta_k)),   mean = sum(x_k) / scale / sum(w_k)

with w_k = min(images, W) / W. Integers are summed exactly, in any order, so a run whose rounding
repeats ends with the same weights bit for bit.

A training that failed enters too, as zeros of weight zero: were the site's answer another one, it
would tell of the images behind it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from safetensors.numpy import load, save

from phoenix_secure.errors import TrainingError
from phoenix_secure.federation.secagg.clipping import Clipping
from phoenix_secure.federation.secagg.metrics import Metrics
from phoenix_secure.federation.secagg.possible_sums import check_sum
from phoenix_secure.federation.secagg.terms import SecureTerms
from phoenix_secure.privacy.discrete_gaussian import draw_discrete_gaussian
from phoenix_secure.privacy.integer_grid import IntegerSums
from phoenix_secure.privacy.quantised import round_within
from phoenix_secure.privacy.skellam import SkellamTable
from phoenix_secure.training.local import LocalUpdate

__all__ = [
    "Payload",
    "TooFewTrained",
    "decode_sum",
    "encode_sums",
    "encode_update",
    "unclipped_fraction",
]

_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Payload:
    """One site's input to the sum: ``words`` (d,) int32, the words of its metrics, and under
    privacy unit ``site`` or trust ``sum`` the ``noise`` (d,) int64 that goes on top.

    ``residual`` (d,) float32 is what rounding left out, in units of the update; it stays at the
    site.
    """

    words: np.ndarray
    extra: tuple[int, ...]
    noise: np.ndarray | None = None
    residual: np.ndarray | None = None

    def to_bytes(self) -> bytes:
        """For the site's own disk, without the residual, which has a file of its own.

        Guarantee:  words and noise as their sum alone: neither can be read from it.
        """
        extra = np.array(self.extra, np.int64)
        if self.noise is None:
            return save({"words": self.words, "extra": extra})
        return save({"noised": self.words + self.noise, "extra": extra})

    @classmethod
    def from_bytes(cls, content: bytes, *, max_word: int = 0) -> Payload:
        """What ``to_bytes`` wrote, or version 0.1.0.

        A noised sum is split again into words of at most ``max_word`` and the rest, since that is
        how a session takes it; the split is a new one, which says nothing.
        """
        fields = load(content)
        words, noise = fields.get("words"), fields.get("noise")
        if words is None:
            noised = fields["noised"]
            words = noised.clip(-max_word, max_word).astype(np.int32)
            noise = noised - words
        return cls(words=words, extra=tuple(int(each) for each in fields["extra"]), noise=noise)

    def __repr__(self) -> str:
        return f"<Payload of {self.words.size} words>"


class TooFewTrained(TrainingError):  # noqa: N818 - it is what happened
    """Fewer sites trained than a sum must hide among, or one of them counts failures of others."""


def encode_update(
    update: LocalUpdate,
    *,
    terms: SecureTerms,
    rounding_key: bytes,
    entropy: Callable[[int], bytes] = os.urandom,
    residual: np.ndarray | None = None,
    clip_factor: float = 1.0,
    num_threads: int = 1,
) -> Payload:
    """The integers that a site enters: read twice, chunk by chunk, and never copied as a whole.

    ``rounding_key`` (32 bytes) steers the stochastic rounding. It hides nothing - the masks do -
    but a key of its own for each update keeps rounding errors independent, so that they average
    out over sites and rounds. ``entropy(n)`` gives n secret bytes, for noise. ``residual`` (d,) is
    what rounding left out before (error feedback): it is added before the clipping. The update is
    divided by ``clip_factor``, the round's adaptive norm in units of the agreed one.

    An update that ``failed`` enters zeros with weight zero, and is counted. One that is ``sat_out``
    counts as one image or, where all sites count alike, enters zeros. Neither touches ``residual``.
    Under privacy unit ``site`` a failure is an input of zeros with the counts of all others: a site
    that is not there would differ by no more.

    Guarantee:  under privacy unit ``site`` the norm of ``words`` is at most the noise's l2_bound,
                whatever the images are, and ``noise`` has the law that the accounting assumes.
    Raises:     ValueError for an update of another size, or a factor where none was agreed.
    """
    if clip_factor != 1.0 and terms.clip_bit_value == 0:
        raise ValueError("expected no clip factor: the terms have no adaptive clip norm")
    if update.delta.shape != (terms.num_parameters,):
        raise ValueError(f"expected an update of {terms.num_parameters} parameters")
    metrics = terms.metric_words
    if update.failed and terms.noise is None:
        return Payload(words=np.zeros(terms.num_words, np.int32), extra=metrics.encode_failure())
    num_images, delta = update.num_images, update.delta
    if update.sat_out or update.failed:
        residual, num_images = None, 1
        if update.failed or terms.hides_metrics:
            delta = np.zeros_like(delta)
    d, left = terms.num_parameters, residual

    def read(start: int, stop: int) -> np.ndarray:
        return delta[start:stop] if left is None else delta[start:stop] + left[start:stop]

    clipping = Clipping.of(
        read, size=d, clip_norm=terms.clip_norm, clip_value=terms.clip_value, factor=clip_factor
    )
    weight = 1.0
    if terms.hides_metrics:
        # Constants (all sites take training.local_steps): nothing beside the noised update.
        extra = metrics.encode(num_images=1, num_steps=update.num_steps, loss=0.0, clipped=False)
    else:
        weight = metrics.weight(num_images)
        extra = metrics.encode(
            num_images=num_images,
            num_steps=update.num_steps,
            # A round of Poisson sampling may draw no image, and has no loss then.
            loss=0.0 if math.isnan(update.loss) else update.loss,
            clipped=clipping.was_clipped,
        )
    within = -terms.clip_bit_value if clipping.was_clipped else terms.clip_bit_value

    def clipped(start: int, stop: int) -> np.ndarray:
        values = clipping.apply(read(start, min(stop, d)))
        if weight != 1:
            values *= np.float32(weight)
        # The last word, where there is an adaptive clip norm, counts who is within it.
        return np.append(values, np.float32(within)) if stop > d else values

    def rounded(key: bytes) -> np.ndarray:
        return terms.fixed_point.encode_chunks(
            clipped, num_words=terms.num_words, key=key, num_threads=num_threads
        )

    noise = None
    if terms.noise is None:
        words = rounded(rounding_key)
    else:
        words = round_within(rounded, bound=terms.noise.l2_bound, key=rounding_key)
        noise = SkellamTable(terms.noise.share_variance).draw(words.size, entropy=entropy)
    # A session keeps words that nobody can write to without a copy.
    words.flags.writeable = False
    left_out = None
    if residual is not None:
        left_out = np.empty(d, np.float32)
        for start in range(0, d, _CHUNK):
            stop = min(start + _CHUNK, d)
            lost = (clipped(start, stop) - words[start:stop] / terms.scale) / weight
            left_out[start:stop] = lost * clip_factor
    return Payload(words=words, extra=extra, noise=noise, residual=left_out)


def encode_sums(
    sums: IntegerSums, *, terms: SecureTerms, entropy: Callable[[int], bytes] = os.urandom
) -> Payload:
    """The integers that a site enters as whole numbers, and its noise where the terms have some.

    Guarantee:  ``noise`` has the law that the accounting assumes; beside it go constants.
    Raises:     ValueError for sums of another size or beyond the grid's limit, or terms of another
                kind of run.
    """
    is_noised = terms.noise is not None
    if terms.grid is None or is_noised == terms.is_exact or sums.words.shape != (terms.num_words,):
        raise ValueError(f"expected sums of {terms.num_words} whole numbers, and terms for them")
    if np.abs(sums.words).max(initial=0) > terms.grid.limit:
        raise ValueError("expected sums within the grid's limit")
    noise = None
    if terms.noise is not None:
        noise = draw_discrete_gaussian(
            sums.words.size, variance=int(terms.noise.share_variance), entropy=entropy
        )
    extra = terms.metric_words.encode(num_images=1, num_steps=1, loss=0.0, clipped=False)
    return Payload(words=sums.words.astype(np.int32), extra=extra, noise=noise)


def decode_sum(
    words: np.ndarray, extra: tuple[int, ...], *, num_sites: int, terms: SecureTerms
) -> tuple[np.ndarray, Metrics]:
    """The mean update (d,) float64, weighted by images, and the summed metrics.

    Guarantee:  without noise, the mean's norm is at most clip_norm and no coordinate exceeds
                clip_value (but for rounding), whatever dishonest sites entered.
    Raises:     ValueError for sums that honest sites could not have produced; TooFewTrained where
                fewer sites trained than the threshold, TrainingError where none did: their mean
                must not be used.
    """
    metrics = terms.metric_words.decode(extra, num_sites=num_sites)
    num_trained = num_sites - metrics.num_failed
    if terms.hides_metrics and (metrics.num_images, metrics.num_clipped) != (num_trained, 0):
        raise ValueError("expected the constant counts of sites that hide their metrics")
    if terms.noise is not None and metrics.num_failed:
        raise ValueError("expected no count of failures beside noised updates")
    total = terms.fixed_point.decode_sum(words, num_clients=num_sites)
    weight = metrics.num_images / terms.max_images
    check_sum(total, weight=weight, num_sites=num_sites, terms=terms)
    if num_trained < terms.threshold:
        # With none that trained all counts are zero, which nobody can pretend for the others.
        kind = TooFewTrained if num_trained else TrainingError
        raise kind(
            f"the training of {metrics.num_failed} of {num_sites} sites failed, and a sum must "
            f"hide among {terms.threshold} that trained; their own logs say why: lower "
            "training.learning_rate or set training.grad_clip"
        )
    total = total[: terms.num_parameters]
    if terms.hides_metrics and not total.any():
        raise TrainingError(
            "every site entered zeros: the training of each failed, or its own evaluation kept it "
            "out; their own logs say which: lower training.learning_rate or filtering.threshold"
        )
    total *= terms.max_images / metrics.num_images
    return total, metrics


def unclipped_fraction(words: np.ndarray, *, num_sites: int, terms: SecureTerms) -> float | None:
    """The share of updates within an adaptive clip norm, noise included; None without one.

    It is noised like every coordinate, and may lie outside [0, 1].
    """
    if terms.clip_bit_value == 0:
        return None
    last = words[terms.num_parameters :]
    total = float(terms.fixed_point.decode_sum(last, num_clients=num_sites)[0])
    return (total / (terms.clip_bit_value * num_sites) + 1) / 2
