"""Draw the pictures of docs/compression.md from the project's own code.

    python docs/figures.py [--work FOLDER]

Trains ``squeezenet_tiny`` on the digits that come with scikit-learn (half a minute on one core),
compresses it step by step, and writes one PNG per step into docs/images. Every point is computed
from this network, by the functions that ``squeezenet compress`` calls wherever there is one. The
seed is fixed: one machine repeats the pictures, another may train a slightly different network.
Needs the extra [train]; takes one to three minutes.

Legend: N images, K classes, O output channels, P weights of an output channel, L positions.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from squeezenet.arch.graph import Conv, build_graph
from squeezenet.arch.quantized_tensors import scaled_tensors
from squeezenet.codec.range_weights import encode_weights
from squeezenet.codec.trellis import NEXT_STATE
from squeezenet.codec.types import CompressedModel
from squeezenet.compress.calibrate import best_scale, calibrated
from squeezenet.compress.deep_compression.weight_sharing import kmeans_linear
from squeezenet.compress.rate_distortion.bit_costs import activity_classes, network_bit_costs
from squeezenet.compress.rate_distortion.curvature import draw_score, measure_curvature
from squeezenet.compress.rate_distortion.fake_quantize import rounded_activations
from squeezenet.compress.rate_distortion.level_search import LevelSearch
from squeezenet.compress.rate_distortion.quantized_network import QuantizedNetwork
from squeezenet.compress.rate_distortion.scale_bias_correction import DAMPINGS, measure_correction
from squeezenet.compress.rate_distortion.settings import RateDistortionSettings
from squeezenet.compress.rate_distortion.size_search import Judgement, judge_size, search_network
from squeezenet.compress.rate_distortion.trellis_rounding import (
    ErrorCost,
    SearchWidth,
    feedback,
    round_layer,
)
from squeezenet.data.digits import load_digits
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import normalise
from squeezenet.model.fold import fold_batch_norm
from squeezenet.model.load import from_compressed, load_model
from squeezenet.model.loaded import LoadedModel
from squeezenet.progress import SilentProgress
from squeezenet.reference.float_interpreter import FloatInterpreter

IMAGES = Path(__file__).parent / "images"
BLUE, ORANGE, GREEN, GREY = "#1f6fb4", "#e07b00", "#2a8a3e", "#8a8a8a"
WIDE = SearchWidth(survivors=8, scales=17)  # what --effort medium uses
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for the training run; kept if given")
    work = parser.parse_args().work
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        digits = Digits(work or Path(temporary))
    IMAGES.mkdir(exist_ok=True)
    for draw in (
        trade_off, curvature, error_feedback, trellis, correction, size_search, activations, sharing
    ):  # fmt: skip
        name = f"{draw.__name__}.png"
        draw(digits).savefig(IMAGES / name, dpi=110, metadata={"Software": None})
        print(f"{name}: {(IMAGES / name).stat().st_size:,} bytes")


class Digits:
    """The trained network, its curvature on the training images, and how to judge copies of it."""

    def __init__(self, work: Path) -> None:
        run = work / "run"
        subprocess.run(
            [sys.executable, "-m", "squeezenet", "train", "digits", "--arch", "squeezenet_tiny",
             "--out", str(run), "--seed", str(SEED), "--threads", "1"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self.model = fold_batch_norm(load_model(run))
        self.graph = build_graph(self.model.record.spec)
        sets = load_digits()
        self.learn, self.test = (self._batches(sets[name]) for name in ("train", "test"))
        self.judged = {}
        for learned, batches in ((False, self.test), (True, self.learn)):
            x_NCHW = self.input(batches)
            self.judged[learned] = (x_NCHW, log_softmax(self.model.logits(x_NCHW)))
        self.curvature = measure_curvature(self.model, self.graph, self.learn, seed=SEED)
        state = self.model.module.state_dict()
        self.weights = {
            conv.name: (state[f"{conv.key}.weight"].numpy(), state[f"{conv.key}.bias"].numpy())
            for conv in self.graph.convs
        }
        self.search = LevelSearch(self.graph, self.weights, self.curvature)

    def _batches(self, images: object) -> EvalBatches:
        return EvalBatches(images, self.model.record.preprocessing, workers=0)

    def input(self, batches: EvalBatches) -> np.ndarray:
        pixels_NHWC = np.concatenate([batch.pixels_NHWC for batch in batches])
        return normalise(pixels_NHWC, self.model.record.preprocessing)

    def kl(self, model: LoadedModel, *, learned: bool = False) -> float:
        """Mean KL divergence from the original in nats, on the 451 test images or, ``learned``, on
        the 1,167 training images."""
        x_NCHW, wanted_NK = self.judged[learned]
        found_NK = log_softmax(model.logits(x_NCHW))
        return float((np.exp(wanted_NK) * (wanted_NK - found_NK)).sum(axis=1).mean())

    def network(self, found: QuantizedNetwork) -> LoadedModel:
        """The network that a file with these levels holds."""
        layers = found.layers()
        return from_compressed(CompressedModel(record=self.model.record, layers=layers))

    def cost(self, conv: Conv, output_fisher: bool = True) -> ErrorCost:
        """What errors of a layer cost; without ``output_fisher``, each output alone."""
        layer = self.curvature[conv.name]
        outputs_OO = layer.output_GQQ[0]
        if not output_fisher:
            outputs_OO = np.diag(np.diag(outputs_OO))
        inputs_PP = layer.fisher_GPP[0]
        return ErrorCost(
            inputs_PP=inputs_PP, inputs_feedback_PP=feedback(inputs_PP), outputs_OO=outputs_OO
        )

    def conv(self, name: str) -> Conv:
        return next(conv for conv in self.graph.convs if conv.name == name)


def num_bytes(network: QuantizedNetwork) -> int:
    """The range-coded weights: levels, scales and biases."""
    return len(encode_weights(network.layers()))


def log_softmax(logits_NK: np.ndarray) -> np.ndarray:
    shifted_NK = logits_NK.astype(np.float64) - logits_NK.max(axis=1, keepdims=True)
    return shifted_NK - np.log(np.exp(shifted_NK).sum(axis=1, keepdims=True))


def axes(count: int, width: float = 9.0, height: float = 3.6) -> tuple[Figure, list]:
    figure = Figure(figsize=(width, height), layout="constrained")
    found = list(np.atleast_1d(figure.subplots(1, count)))
    for each in found:
        each.grid(alpha=0.25)
        each.spines[["top", "right"]].set_visible(False)
    return figure, found


def trade_off(digits: Digits) -> Figure:
    """J = KL + lambda * bits: one file per lambda, and the line whose slope lambda is."""
    targets = np.geomspace(0.002, 1.0, 12)
    sizes, measured, predicted, lambdas = [], [], [], []
    for target in targets:
        lambda_ = digits.search.lambda_for(float(target))
        found = digits.search.round(lambda_, WIDE)
        lambdas.append(lambda_)
        sizes.append(num_bytes(found))
        predicted.append(digits.search.predicted_divergence(found))
        measured.append(digits.kl(digits.network(found)))
    figure, (left, right) = axes(2)
    left.semilogy(sizes, predicted, "o--", color=GREY, label="predicted by the curvature")
    left.semilogy(sizes, measured, "o-", color=BLUE, label="measured on 451 test images")
    left.set(xlabel="weights, bytes", ylabel="KL divergence, nats")
    left.set_title("each λ makes one file")
    left.legend(frameon=False)
    i = 8
    bits = 8 * np.array(sizes)
    right.plot(bits / 1000, predicted, "o--", color=GREY, label="predicted KL")
    span = np.array([bits[i] - 9000, bits[i] + 9000])
    right.plot(span / 1000, predicted[i] - lambdas[i] * (span - bits[i]), color=ORANGE,
               label=f"slope -λ, λ = {lambdas[i]:.2g} nats per bit")  # fmt: skip
    right.plot(bits[i] / 1000, predicted[i], "o", color=ORANGE, markersize=9)
    right.set(xlabel="weights, thousand bits", ylabel="KL divergence, nats")
    right.set(ylim=(0, 1.15 * max(predicted)))
    right.set_title("the file for λ touches the line of slope -λ")
    right.legend(frameon=False)
    return figure


def curvature(digits: Digits) -> Figure:
    """Each layer rounded alone: what the quadratic model predicts, and what is measured."""
    state = digits.model.module.state_dict()
    names, rows = [], []
    for conv in digits.graph.convs:
        weight_OP = digits.weights[conv.name][0].reshape(conv.out_channels, -1).astype(np.float64)
        scale_O1 = np.abs(weight_OP).max(axis=1, keepdims=True) / 6
        error_OP = np.rint(weight_OP / scale_O1) * scale_O1 - weight_OP
        error = torch.from_numpy(error_OP.reshape(conv.weight_shape)).float()
        changed = copy.deepcopy(digits.model)
        key = f"{conv.key}.weight"
        changed.module.load_state_dict({**state, key: state[key] + error})
        summed, apart = position_costs(digits, conv, error)
        product = float(digits.cost(conv).of(error_OP).sum())
        names.append(conv.name)
        rows.append((digits.kl(changed, learned=True), summed, product, apart))
    measured, summed, product, apart = np.array(rows).T
    figure, (chart,) = axes(1, height=4.0)
    at = np.arange(len(names))
    chart.axhline(1, color=GREY, linewidth=1)
    for values, colour, marker, label in (
        (apart, ORANGE, "v", "positions independent"),
        (summed, GREEN, "o", "positions summed"),
        (product, BLUE, "D", "positions summed, as a product of two matrices (used)"),
    ):
        chart.semilogy(at, values / measured, marker, color=colour, label=label)
    chart.set_xticks(at, names, rotation=60, ha="right", fontsize=8)
    chart.set(ylabel="predicted KL / measured KL", ylim=(0.05, 5))
    chart.set_yticks((0.1, 0.2, 0.5, 1, 2), ("0.1", "0.2", "0.5", "1", "2"))
    chart.minorticks_off()
    chart.set_title(
        "each layer rounded alone to the nearest of 13 levels; 1 is a perfect prediction",
        fontsize=10,
    )
    chart.legend(frameon=False, loc="upper center", ncols=3, fontsize=8)
    return figure


def position_costs(digits: Digits, conv: Conv, error: torch.Tensor) -> tuple[float, float]:
    """E[(sum of the positions)^2] / 2 and E[sum of the positions' squares] / 2 of an error."""
    generator = torch.Generator().manual_seed(SEED)
    layer = digits.model.module.get_submodule(conv.key)
    seen: dict[str, torch.Tensor] = {}

    def remember(_: torch.nn.Module, inputs: tuple, out: torch.Tensor) -> None:
        out.retain_grad()
        seen.update(x=inputs[0].detach(), out=out)

    handle = layer.register_forward_hook(remember)
    x = torch.from_numpy(digits.judged[True][0]).requires_grad_()
    logits_NK = digits.model.module.eval()(x)
    logits_NK.backward(draw_score(logits_NK.detach(), generator))
    handle.remove()
    change = torch.nn.functional.conv2d(
        seen["x"], error, stride=conv.stride, padding=conv.padding, groups=conv.groups
    )
    each_NL = (change * seen["out"].grad).sum(dim=1).flatten(1).double()
    return (
        float(each_NL.sum(dim=1).square().mean() / 2),
        float(each_NL.square().sum(dim=1).mean() / 2),
    )


def error_feedback(digits: Digits) -> Figure:
    """One layer rounded to the nearest level, with feedback within outputs, and between them."""
    conv = digits.conv("fire4/expand3x3")
    weight_OP = digits.weights[conv.name][0].reshape(conv.out_channels, -1).astype(np.float64)
    cost = digits.cost(conv)
    alone = digits.cost(conv, output_fisher=False)
    shape = (conv.out_channels, conv.in_channels, 9)
    figure, (left, right) = axes(2)
    curves = {"nearest level": [], "feedback within an output": [], "and between outputs": []}
    for divisor in np.geomspace(1.5, 16, 9):
        scale_O = np.abs(weight_OP).max(axis=1) / divisor
        nearest_OP = np.rint(weight_OP / scale_O[:, None]).astype(np.int64)
        costs = network_bit_costs({"x": nearest_OP.reshape(shape)})[False]
        classes = activity_classes(nearest_OP.reshape(shape))
        error_OP = nearest_OP * scale_O[:, None] - weight_OP
        curves["nearest level"].append((entropy(nearest_OP), cost.of(error_OP).sum()))
        for label, each in (("feedback within an output", alone), ("and between outputs", cost)):
            codes_OP, scales_O = round_layer(
                weight_OP, each, scale_O, costs, classes,
                lambda_=0.0, width=SearchWidth(survivors=1, scales=1), trellis=False,
            )  # fmt: skip
            error_OP = codes_OP * scales_O[:, None].astype(np.float64) - weight_OP
            curves[label].append((entropy(codes_OP), cost.of(error_OP).sum()))
            if divisor > 2.9 and label == "feedback within an output" and not left.lines:
                picture_of_feedback(left, alone, weight_OP, scale_O)
    for (label, points), colour in zip(curves.items(), (ORANGE, GREEN, BLUE), strict=True):
        right.semilogy(*zip(*points, strict=True), "o-", color=colour, label=label, markersize=4)
    right.set(
        xlabel=f"order-0 entropy of {conv.name}, bits per weight", ylabel="predicted KL, nats"
    )
    right.set_title("one layer, equal scales, rounded three ways", fontsize=10)
    right.legend(frameon=False)
    return figure


def picture_of_feedback(
    chart: object, cost: ErrorCost, weight_OP: np.ndarray, scale_O: np.ndarray
) -> None:
    """Follow one output: how far the targets move as earlier errors are compensated."""
    upper_PP = cost.inputs_feedback_PP
    o, count = 0, 36
    left_P, levels = weight_OP[o].copy(), []
    for p in range(len(left_P)):
        levels.append(round(left_P[p] / scale_O[o]))
        error = (left_P[p] - levels[p] * scale_O[o]) / upper_PP[p, p]
        left_P[p + 1 :] -= error * upper_PP[p, p + 1 :]
    at = np.arange(count)
    chart.bar(at, levels[:count], color="#cfe0f0", width=0.9, label="level that is taken")
    chart.plot(at, weight_OP[o, :count] / scale_O[o], "_", color=GREY, markersize=8,
               label="weight")  # fmt: skip
    chart.plot(at, left_P[:count] / scale_O[o], ".", color=GREEN,
               label="weight less the errors so far")  # fmt: skip
    chart.set(xlabel="weights of one output, in order", ylabel="units of its scale")
    chart.set_title("later weights take over earlier errors", fontsize=10)
    chart.legend(frameon=False, fontsize=8)


def entropy(levels: np.ndarray) -> float:
    _, counts = np.unique(levels, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())


def trellis(digits: Digits) -> Figure:
    """A path through the trellis, and what survivors and scales are worth."""
    conv = digits.conv("fire5/expand3x3")
    lambda_ = digits.search.lambda_for(0.002)
    found = digits.search.round(lambda_, WIDE).levels[conv.name]
    weight_OP = digits.weights[conv.name][0].reshape(conv.out_channels, -1)
    # The output with the most odd levels among its first weights: it shows both kinds of state.
    o = int(np.argmax((found.levels_OP[:, :16] % 2).sum(axis=1)))
    figure, (left, right) = axes(2, width=10.0, height=3.8)
    count, state, most = 16, 0, int(np.abs(found.levels_OP[o, :16]).max()) + 2
    for p in range(count):
        parity = state & 1
        allowed = [v for v in range(-most, most + 1) if v == 0 or v % 2 == parity]
        left.plot([p] * len(allowed), allowed, ".", color="#c9c9c9", markersize=4)
        left.text(p, -most - 1.2, str(state), ha="center", fontsize=8, color=GREY)
        state = NEXT_STATE[state][int(found.codes_OP[o, p]) & 1]
    left.plot(range(count), found.levels_OP[o, :count], "o-", color=BLUE, linewidth=1,
              label="level that is taken")  # fmt: skip
    left.plot(range(count), weight_OP[o, :count] / found.scales_O[o], "x", color=ORANGE,
              label="weight")  # fmt: skip
    left.set(xlabel="weights of one output, in order; below: state",
             ylabel="units of its scale", ylim=(-most - 2, most + 2.5))  # fmt: skip
    left.set_title("even states allow even levels, odd ones odd levels and 0", fontsize=10)
    left.legend(frameon=False, ncols=2, loc="upper center", fontsize=8)
    survivors = (1, 2, 4, 8, 16)
    lambda_, base = digits.search.lambda_for(0.01), None
    for steps, colour in ((1, GREY), (5, GREEN), (17, BLUE)):
        values = []
        for paths in survivors:
            made = digits.search.round(lambda_, SearchWidth(survivors=paths, scales=steps))
            bits = 8 * num_bytes(made)
            values.append(digits.search.predicted_divergence(made) + lambda_ * bits)
        base = base or values[0]
        right.plot(survivors, 100 * np.array(values) / base, "o-", color=colour,
                   label=f"{steps} scale{'s' * (steps > 1)} per output")  # fmt: skip
    right.set_xscale("log", base=2)
    right.set_xticks(survivors, [str(each) for each in survivors])
    right.set(xlabel="survivors per state", ylabel="J of the network, % of the first point")
    right.set_title("more candidates, smaller J", fontsize=10)
    right.legend(frameon=False)
    return figure


def correction(digits: Digits) -> Figure:
    """The divergence before and after scales and biases are moved, by the damping."""
    lambda_ = digits.search.lambda_for(0.03)
    found = digits.search.round(lambda_, WIDE)
    student = digits.network(found)
    measured = measure_correction(
        student, digits.model, digits.graph, digits.learn, seed=SEED,
        progress=SilentProgress(), title="", check=lambda: None,
    )  # fmt: skip
    assert measured is not None
    dampings = (0.01, 0.03, 0.1, 0.3, 1.0, *DAMPINGS)
    moved = [digits.network(measured.corrected(found, d)) for d in dampings]
    figure, (chart,) = axes(1, width=7.0)
    for learned, colour, name in ((True, GREY, "training"), (False, BLUE, "test")):
        chart.axhline(digits.kl(student, learned=learned), color=colour, linestyle=":",
                      label=f"{name} images, before")  # fmt: skip
        chart.loglog(dampings, [digits.kl(each, learned=learned) for each in moved], "o-",
                     color=colour, label=f"{name} images, after")  # fmt: skip
    chart.axvspan(DAMPINGS[0], DAMPINGS[-1], color=GREEN, alpha=0.08, label="candidates")
    chart.set(xlabel="damping", ylabel="measured KL, nats")
    chart.legend(frameon=False, fontsize=8)
    return figure


def size_search(digits: Digits) -> Figure:
    """Every rounding of a search for a size, in the order in which they are tried."""
    target = 5000
    tried: list[tuple[float, int]] = []

    class Recorded(LevelSearch):
        def lambda_for(self, divergence: float) -> float:
            self.divergence_tried = divergence
            return super().lambda_for(divergence)

    search = Recorded(digits.graph, digits.weights, digits.curvature)

    def judge(network: QuantizedNetwork) -> Judgement:
        size = num_bytes(network)
        tried.append((search.divergence_tried, size))
        return judge_size(size, target)

    settings = RateDistortionSettings(target_bytes=target)
    search_network(search, settings, judge, WIDE, SilentProgress())
    figure, (left, right) = axes(2)
    rough = 6
    for chart in (left, right):
        chart.axhline(target, color=GREY, linewidth=1, label=f"target, {target:,} bytes")
        chart.plot(*zip(*tried[:rough], strict=True), "o", color=ORANGE,
                       label="1 survivor, 1 scale: halve the range")  # fmt: skip
        chart.plot(*zip(*tried[rough:], strict=True), "D", color=BLUE,
                       label="8 survivors, 17 scales: correct")  # fmt: skip
        chart.set(xlabel="target KL, nats (sets λ)", ylabel="weights, bytes")
        chart.set_title("all tries, in order" if chart is left else "the last ones, close up")
    for i, (divergence, size) in enumerate(tried):
        near = abs(size / target - 1) < 0.03
        for chart in (left, right) if near else (left,):
            if chart is right or not near:
                chart.annotate(f"{i + 1}", (divergence, size), textcoords="offset points",
                               xytext=(6, 4), fontsize=8)  # fmt: skip
    close = [each for each in tried if abs(each[1] / target - 1) < 0.03]
    right.set(
        xlim=(0.96 * min(close)[0], 1.04 * max(close)[0]), ylim=(0.97 * target, 1.03 * target)
    )
    left.legend(frameon=False, fontsize=8)
    return figure


def activations(digits: Digits) -> Figure:
    """One tensor's values, and the scale that loses least of them."""
    lambda_ = digits.search.lambda_for(0.01)
    layers = digits.search.round(lambda_, WIDE).layers()
    model = CompressedModel(record=digits.model.record, layers=layers)
    name = "fire2/squeeze"
    assert name in scaled_tensors(digits.graph)
    parts: list[np.ndarray] = []
    interpreter = FloatInterpreter(
        model, lambda tensor, x_CHW: parts.append(x_CHW.ravel().copy()) if tensor == name else None
    )
    for batch in digits.learn:
        interpreter.logits(batch.pixels_NHWC)
    values = np.concatenate(parts)
    best = best_scale(values)
    top = float(values.max())
    shares = np.geomspace(0.1, 1.0, 40)
    errors = []
    for share in shares:
        scale = share * top / 255
        errors.append(np.square(np.rint(values / scale).clip(0, 255) * scale - values).mean())
    figure, (left, right) = axes(2)
    left.hist(values[values > 0], bins=120, color=BLUE, log=True)
    left.axvline(255 * best.scale, color=ORANGE, label=f"byte 255 at scale {best.scale:.4g}")
    left.set(xlabel=f"activations of {name} above 0", ylabel="count")
    left.legend(frameon=False)
    right.semilogy(shares, errors, color=BLUE)
    right.axvline(255 * best.scale / top, color=ORANGE, label="what calibration takes")
    right.set(xlabel="largest value that a byte holds / largest seen", ylabel="mean square error")
    right.legend(frameon=False)
    scales = calibrated(model, digits.learn).activations
    assert scales is not None
    rounded = from_compressed(model)
    before = digits.kl(rounded)
    with rounded_activations(rounded.module, digits.graph, scales):
        after = digits.kl(rounded)
    left.set_title("clip the few, or round the many?")
    right.set_title(f"KL of the network: float32 {before:.4f}, bytes {after:.4f} nats", fontsize=10)
    return figure


def sharing(digits: Digits) -> Figure:
    """Deep Compression: a layer pruned to a third, and the values that its weights share."""
    weight = digits.weights["fire5/expand3x3"][0].ravel().astype(np.float64)
    kept = np.sort(np.abs(weight))[::-1][: round(0.33 * len(weight))].min()
    centroids = kmeans_linear(weight[np.abs(weight) >= kept], 2**4 - 1)
    figure, (chart,) = axes(1, width=7.0, height=3.2)
    edges = np.linspace(weight.min(), weight.max(), 121)
    chart.hist(weight[np.abs(weight) < kept], edges, color="#cccccc", label="pruned, 67%")
    chart.hist(weight[np.abs(weight) >= kept], edges, color=BLUE, label="kept, 33%")
    for i, centroid in enumerate(centroids):
        chart.axvline(centroid, color=ORANGE, linewidth=1, label="shared values" if not i else None)
    chart.set(xlabel="weights of fire5/expand3x3", ylabel="count")
    chart.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
