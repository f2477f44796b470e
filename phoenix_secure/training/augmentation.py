"""Random copies of an image, for several of them inside one gradient."""

from __future__ import annotations

import torch

from phoenix_secure.diffusion.objective import Draws

__all__ = ["augmented_rows"]


def augmented_rows(
    x0: torch.Tensor, *, copies: int, horizontal_flip: bool, draws: Draws
) -> torch.Tensor:
    """``copies`` versions of each image: the first unshifted, the others moved at random.

    Shape:      (n, C, H, W) -> (n, copies, C, H, W).
    Units:      shifts are whole pixels, uniform up to H // 14 each way; the border is repeated.
                Each copy is mirrored with probability 1/2 when ``horizontal_flip`` (a mirrored
                digit is no digit: never without being asked).
    Source:     De et al. (2022), section 3.3, arXiv:2204.13650 (augmentation multiplicity).
    """
    if copies < 1:
        raise ValueError(f"expected copies >= 1, got {copies}")
    reach = x0.shape[-1] // 14
    rows = x0[:, None].repeat(1, copies, 1, 1, 1)
    if copies > 1 and reach > 0:
        shifts = draws.integers(len(x0) * copies * 2, below=2 * reach + 1) - reach
        shifts = shifts.view(len(x0), copies, 2)
        shifts[:, 0] = 0
        padded = torch.nn.functional.pad(x0, (reach,) * 4, mode="replicate")
        height, width = x0.shape[2:]
        for i, image in enumerate(padded):
            for j in range(1, copies):
                top, left = (shifts[i, j] + reach).tolist()
                rows[i, j] = image[:, top : top + height, left : left + width]
    if horizontal_flip:
        flip = draws.integers(len(x0) * copies, below=2).to(x0.device) == 1
        rows = torch.where(flip.view(len(x0), copies, 1, 1, 1), rows.flip(-1), rows)
    return rows
