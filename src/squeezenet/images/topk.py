"""What logits say: probabilities, the k best classes, and how often they are right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from squeezenet.images.preprocess import Float32Array
    from squeezenet.images.sets import Labels


def softmax(logits_NK: Float32Array) -> npt.NDArray[np.float64]:
    """Return probabilities (N, K); rows sum to 1."""
    shifted = logits_NK.astype(np.float64) - logits_NK.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def top_k(logits_NK: Float32Array, k: int) -> Labels:
    """Return the k best classes of each row, best first; of equals the lower index wins."""
    return np.argsort(-logits_NK, axis=1, kind="stable")[:, :k].astype(np.int64)


def num_in_top_k(logits_NK: Float32Array, labels: Labels, k: int) -> int:
    """Count the rows whose label is among their k best classes."""
    return int((top_k(logits_NK, k) == labels[:, None]).any(axis=1).sum())


def kl_divergence(reference_NK: Float32Array, other_NK: Float32Array) -> Float32Array:
    """Return KL(reference || other) of each row in nats, float32 (N,)."""
    p, q = softmax(reference_NK), softmax(other_NK)
    tiny = np.finfo(np.float64).tiny
    terms = p * (np.log(np.maximum(p, tiny)) - np.log(np.maximum(q, tiny)))
    return np.asarray(terms.sum(axis=1), np.float32)
