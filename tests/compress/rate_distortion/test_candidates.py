"""The choice between candidates, by images that none of them learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squeezenet.codec.types import ActivationScale
from squeezenet.compress.rate_distortion.candidates import CandidateChoice
from squeezenet.compress.rate_distortion.fake_quantize import rounded_activations
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.compress.rate_distortion.session import Session
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.evaluation.metrics import kl_divergence
from squeezenet.images.preprocess import normalise
from squeezenet.model.loaded import LoadedModel
from tests.compress.conftest import job_of

SIZES = {1.0: 900, 2.0: 1001, 3.0: 1000, 4.0: 950}
DIVERGENCES = {1.0: 0.5, 2.0: 0.1, 3.0: 0.3, 4.0: 0.3}


def choice_of(
    model: LoadedModel, work: Path, target: int | None, monkeypatch: pytest.MonkeyPatch
) -> CandidateChoice:
    session = Session(job_of(model, work), RateDistortionSettings(target_bytes=target))
    monkeypatch.setattr(Session, "file_bytes", lambda self, network: SIZES[network.lambda_])
    choice = CandidateChoice(session, {})
    monkeypatch.setattr(choice, "divergence", lambda network, teacher: DIVERGENCES[network.lambda_])
    return choice


@pytest.mark.parametrize(
    ("order", "target", "best"),
    [
        ((1.0, 2.0, 3.0), None, 2.0),
        ((1.0, 2.0, 3.0), 1010, 3.0),  # the second is a byte too large
        ((2.0, 3.0), 1010, 2.0),  # the first is always allowed
        ((4.0, 3.0), 1010, 4.0),  # of equals the first
        ((1.0, 3.0), 800, 1.0),
    ],
)
def test_best(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    order: tuple[float, ...], target: int | None, best: float,
) -> None:  # fmt: skip
    choice = choice_of(model, tmp_path, target, monkeypatch)
    candidates = [QuantizedNetwork(levels={}, lambda_=lambda_) for lambda_ in order]
    assert choice.best(candidates, model).lambda_ == best


def test_divergence_is_half_in_integers_and_half_in_float32(
    model: LoadedModel, quantized: QuantizedNetwork, tmp_path: Path
) -> None:
    session = Session(job_of(model, tmp_path), RateDistortionSettings())
    scales: dict[str, Any] = {
        conv.target: ActivationScale(scale=0.25, zero_point=0) for conv in session.graph.convs[:3]
    }
    prep = session.original.record.preprocessing
    x_NCHW = np.concatenate(
        [normalise(b.pixels_NHWC, prep) for b in session.batches(session.held_out)]
    )
    reference_NK = session.original.logits(x_NCHW)
    student = session.model(quantized)
    in_float = float(kl_divergence(reference_NK, student.logits(x_NCHW)).mean())
    with rounded_activations(student.module, session.graph, scales):
        in_bytes = float(kl_divergence(reference_NK, student.logits(x_NCHW)).mean())
    assert in_bytes != in_float
    both = CandidateChoice(session, scales).divergence(quantized, session.original)
    assert both == pytest.approx((in_bytes + in_float) / 2, rel=1e-4)
    alone = CandidateChoice(session, {}).divergence(quantized, session.original)
    assert alone == pytest.approx(in_float, rel=1e-4)
