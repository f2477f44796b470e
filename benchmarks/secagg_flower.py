"""The same work by Flower's SecAgg+: its own client stages and the body of its unmask stage.

Nothing here is a re-implementation: ``_setup``, ``_share_keys`` and ``_collect_masked_vectors``
are flwr's, called with the messages that its workflow would send; the server's part calls flwr's
functions in the order of ``SecAggPlusWorkflow``'s collect and unmask stages.
"""

from __future__ import annotations

import importlib
import logging

import numpy as np
from flwr.common import bytes_to_ndarray, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.ndarrays_arithmetic import factor_extract, get_parameters_shape
from flwr.common.secure_aggregation.quantization import dequantize
from flwr.common.secure_aggregation.secaggplus_constants import Key

# The package exports a function of the same name, which hides the module from `import`.
flower = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")
logging.getLogger("flwr").setLevel(logging.ERROR)

TARGET_RANGE = 1 << 22
MOD_RANGE = 1 << 32
CLIP = 8.0


class FlowerClient:
    """Node 1 of k + 1, with k neighbours whose keys and ciphertexts are real."""

    def __init__(self, *, num_neighbours: int, threshold: int) -> None:
        self.state = flower.SecAggPlusState(nid=1)
        self.configs = {
            Key.SAMPLE_NUMBER: num_neighbours + 1,
            Key.SHARE_NUMBER: num_neighbours + 1,
            Key.THRESHOLD: threshold,
            Key.CLIPPING_RANGE: CLIP,
            Key.TARGET_RANGE: TARGET_RANGE,
            Key.MOD_RANGE: MOD_RANGE,
            Key.MAX_WEIGHT: 1000.0,
        }
        self.neighbours = {nid: _public_pair() for nid in range(2, num_neighbours + 2)}

    def share_keys(self) -> None:
        """Both key pairs, both sharings, one Fernet ciphertext per neighbour."""
        own = flower._setup(self.state, self.configs)
        keys = {str(nid): pair for nid, pair in self.neighbours.items()}
        keys["1"] = (own[Key.PUBLIC_KEY_1], own[Key.PUBLIC_KEY_2])
        flower._share_keys(self.state, keys)

    def deliver(self) -> dict[str, list[object]]:
        """Take what the server forwards to this client before the upload (not timed)."""
        state = self.state
        shares = [
            flower.create_shares(secret, state.threshold, state.share_num)[0]
            for secret in (state.rd_seed, state.sk1)
        ]
        ciphertexts = [
            flower.encrypt(key, flower.share_keys_plaintext_concat(nid, 1, *shares))
            for nid, key in self.state.ss2_dict.items()
        ]
        return {
            Key.CIPHERTEXT_LIST: ciphertexts,
            Key.SOURCE_LIST: list(self.state.ss2_dict),
        }

    def masked_upload(self, delivered: dict[str, list[object]], values: np.ndarray) -> list[bytes]:
        """Quantise, self mask, k pair masks, reduce, serialise."""
        parameters = ndarrays_to_parameters([values])
        out = flower._collect_masked_vectors(self.state, delivered, 1000, parameters)
        return out[Key.MASKED_PARAMETERS]

    def private_key_shares(self) -> list[bytes]:
        """Enough shares of the mask key to recover it (not timed)."""
        state = self.state
        return flower.create_shares(state.sk1, state.threshold, state.share_num)[: state.threshold]


def recover_dropped(client: FlowerClient, shares: list[bytes], total: list[np.ndarray]) -> None:
    """Rebuild a dropped client's key and take its k pair masks off the sum."""
    secret = combine_shares(shares)
    # Node 1 is the lowest id: each survivor added the mask that it shares with node 1.
    for public_key, _ in client.neighbours.values():
        shared = flower.generate_shared_key(
            flower.bytes_to_private_key(secret), flower.bytes_to_public_key(public_key)
        )
        mask = flower.pseudo_rand_gen(shared, MOD_RANGE, get_parameters_shape(total))
        total = flower.parameters_subtraction(total, mask)


def unmask_survivor(upload: list[bytes], total: list[np.ndarray], seed: bytes) -> list[np.ndarray]:
    """Add one upload to the sum and take its self mask off again."""
    total = flower.parameters_addition(total, [bytes_to_ndarray(part) for part in upload])
    mask = flower.pseudo_rand_gen(seed, MOD_RANGE, get_parameters_shape(total))
    return flower.parameters_subtraction(total, mask)


def decode(total: list[np.ndarray]) -> list[np.ndarray]:
    """Reduce and dequantise the sum."""
    _, parameters = factor_extract(flower.parameters_mod(total, MOD_RANGE))
    return dequantize(parameters, CLIP, TARGET_RANGE)


def _public_pair() -> tuple[bytes, bytes]:
    pairs = [flower.generate_key_pairs() for _ in range(2)]
    return tuple(flower.public_key_to_bytes(public) for _, public in pairs)
