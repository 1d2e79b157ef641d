"""The time of one image on this machine."""

from __future__ import annotations

import statistics
import time

import numpy as np

from squeezenet.client.classifier import Classifier

_MAX_RUNS, _MAX_SECONDS = 5, 0.5


def latency_ms(classifier: Classifier) -> float:
    """Return the median time of a run, of up to 5 runs in half a second, after a warm-up.

    Decoding and resizing of pictures are not included.
    """
    pixels_NHWC = np.zeros((1, *classifier.crop_shape), np.uint8)
    classifier.integer_logits(pixels_NHWC)
    times: list[float] = []
    while len(times) < _MAX_RUNS and sum(times) < _MAX_SECONDS:
        started = time.perf_counter()
        classifier.integer_logits(pixels_NHWC)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)
