"""Choose between quantized networks by their KL divergence from a teacher on held-out images.

The divergence is the mean of two: with activations rounded to bytes, and in float32. A file serves
clients of both kinds. Chosen for integers alone, candidates had 4% to 11% less divergence there and
11% more in float32 (docs/experiments).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from squeezenet.codec.types import ActivationScale
from squeezenet.compress.rate_distortion.fake_quantize import rounded_activations
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.compress.rate_distortion.session import Session
from squeezenet.evaluation.metrics import compare
from squeezenet.evaluation.predict import LabelledLogits
from squeezenet.images.preprocess import from_pixels
from squeezenet.model.loaded import LoadedModel


class CandidateChoice:
    """Judges candidates of one session. ``activations``: scales of 8-bit activations, or none."""

    def __init__(self, session: Session, activations: Mapping[str, ActivationScale]) -> None:
        self._session = session
        self._activations = activations
        self._reference: dict[LoadedModel, LabelledLogits] = {}

    def best(
        self, candidates: Sequence[QuantizedNetwork], teacher: LoadedModel
    ) -> QuantizedNetwork:
        """Return the first of the candidates of least divergence from ``teacher``.

        Candidates larger than ``target_bytes`` do not count, except the first, which is always
        allowed.
        """
        target = self._session.max_file_bytes
        allowed = list(candidates)
        if target is not None:
            fitting = [each for each in candidates[1:] if self._session.file_bytes(each) <= target]
            allowed = [candidates[0], *fitting]
        divergences = [self.divergence(each, teacher) for each in allowed]
        best = self._session.ranks.broadcast(int(np.argmin(divergences)))
        self._session.job.progress.log(
            f"held-out KL divergence {divergences[0]:.4f} nats, now {divergences[best]:.4f}"
        )
        return allowed[best]

    def divergence(self, network: QuantizedNetwork, teacher: LoadedModel) -> float:
        """Return the mean KL divergence from ``teacher`` on the held-out images, in nats."""
        if teacher not in self._reference:
            self._reference[teacher] = self._predictions(teacher, {})
        model = self._session.model_on_device(network)
        kinds = ({}, self._activations) if self._activations else ({},)
        found = [
            compare(self._predictions(model, scales), self._reference[teacher]).kl
            for scales in kinds
        ]
        return sum(found) / len(found)

    def _predictions(
        self, model: LoadedModel, activations: Mapping[str, ActivationScale]
    ) -> LabelledLogits:
        session = self._session
        with rounded_activations(model.module, session.graph, activations):
            network = from_pixels(model.logits, model.record.preprocessing)
            return session.predict(network, session.held_out)
