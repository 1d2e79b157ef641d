"""Constants that were tuned by measurements. To change one, measure again and say so beside it."""

from __future__ import annotations

import numpy as np

from squeezenet.compress import calibrate, images, retrain
from squeezenet.compress.deep_compression import job as deep
from squeezenet.compress.deep_compression import sensitivity, weight_sharing
from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
from squeezenet.compress.rate_distortion import (
    bit_costs,
    class_fisher,
    curvature,
    layer_inputs,
    layer_search,
    level_search,
    level_training,
    prune_first,
    scale_bias_correction,
    session,
    size_search,
    straight_through,
    trellis_rounding,
)
from squeezenet.compress.rate_distortion.settings import EFFORT_PRESETS, EffortPreset
from squeezenet.compress.rate_distortion.trellis_rounding import SearchWidth


def test_both_methods() -> None:
    assert (images.FULL_TRAINING_IMAGES, images.HELD_OUT_SHARE) == (10_000, 0.2)
    assert (retrain.TEMPERATURE, retrain.WARMUP_EPOCHS, retrain.CLIP_NORM) == (2.0, 0.5, 1.0)
    assert (calibrate.CALIBRATION_IMAGES, calibrate.VALUES_PER_IMAGE) == (200, 4096)
    assert (calibrate.CONV_MARGIN, calibrate.MAX_ADD_RATIO) == (1.001, 31)
    np.testing.assert_allclose(calibrate.RANGE_SHARES, 0.25 ** (1 - np.arange(29) / 28))


def test_deep_compression() -> None:
    assert sensitivity.DENSITIES == (0.1, 0.15, 0.2, 0.25, 0.33, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)
    assert sensitivity.MAX_TOTAL_DROP_BUDGETS == 20
    assert (weight_sharing.MAX_ITERATIONS, weight_sharing.MANTISSA_BITS) == (100, 10)
    assert deep.DEFAULT_EPOCHS == {"prune": 10, "share": 4}
    assert deep.MIN_STEPS == {"prune": 500, "share": 300}
    assert (deep.SHARE_RATE, deep.SCAN_IMAGES) == (0.3, 1000)
    settings = DeepCompressionSettings()
    assert (settings.bits, settings.scan_budget, settings.learning_rate) == (6, 0.5, 0.02)


def test_rounding() -> None:
    assert (trellis_rounding.DAMPING, trellis_rounding.MAX_SCALE_CHANGE) == (0.001, 0.5)
    assert SearchWidth(survivors=1, scales=1) == trellis_rounding.NARROWEST
    assert (layer_search.SCALE_FACTOR, layer_search.DEAD_ZONE) == (0.46, 0.65)
    assert (layer_search.MAX_START_LEVEL, layer_search.MAX_CODE) == (115, 63)
    assert (layer_search.MOMENT_MIX, layer_search.MEAN_CURVATURE_MIX) == (0.35, 0.85)
    assert (layer_search.OUTPUT_SHRINKAGE, layer_search.MIN_CURVATURE) == (0.5, 1e-3)
    assert (level_search.NUM_ROUNDS, curvature.MAX_PATCHES) == (3, 128)
    assert bit_costs.PSEUDO_COUNT == 0.4
    assert (layer_search.CLASS_MIX, session.CLASS_IMAGES_FACTOR) == (0.3, 3)
    assert (class_fisher.MAX_RANK, class_fisher.MIN_SHARE) == (1024, 1e-3)
    assert (layer_inputs.MAX_IMAGES, layer_inputs.DAMPING) == (512, 0.1)
    assert (layer_inputs.MIN_IMAGES, layer_inputs.MAX_POSITIONS) == (64, 150)


def test_search_correction_and_training() -> None:
    assert (size_search.INITIAL_KL, size_search.GROWTH) == (0.05, 4.0)
    assert (size_search.NUM_BISECTIONS, size_search.NUM_ROUGH_BISECTIONS) == (9, 6)
    assert (size_search.NUM_REFINEMENTS, size_search.MARGIN) == (3, 0.0005)
    assert (size_search.MIN_SLOPE, size_search.MAX_STEP) == (0.01, 0.25)
    assert scale_bias_correction.DAMPINGS == (3.0, 10.0, 30.0, 100.0, 300.0)
    assert scale_bias_correction.MEAN_CURVATURE_MIX == scale_bias_correction.MAX_SCALE_CHANGE == 0.5
    assert (level_training.BATCH_SIZE, level_training.LEARNING_RATE) == (32, 0.01)
    assert (level_training.TEMPERATURE, level_training.MIX) == (2.0, 0.5)
    assert (level_training.GAIN, level_training.MAX_CHANGE) == (10.0, 0.1)
    assert (straight_through.SCALE_UNIT, straight_through.BIAS_UNIT) == (0.02, 0.1)
    assert (straight_through.ROUNDED_EVERY, straight_through.FIRST_PRICE) == (4, 0.05)
    assert prune_first.MAX_EPOCHS == 40
    assert prune_first.UNNORMALISED_RATE == 0.1
    assert (session.HELD_OUT_SHARE, session.MAX_HELD_OUT) == (0.2, 500)
    presets = dict(EFFORT_PRESETS)
    assert presets == {
        "low": EffortPreset(
            width=SearchWidth(survivors=1, scales=9), correction_images=1000, curvature_images=2000
        ),
        "medium": EffortPreset(
            width=SearchWidth(survivors=8, scales=17),
            correction_images=2000,
            curvature_images=2000,
        ),
        "high": EffortPreset(
            width=SearchWidth(survivors=16, scales=17),
            correction_images=4000,
            curvature_images=4000,
            correction_passes=1,
            training_steps=6000,
            retraining_steps=8000,
        ),
    }
