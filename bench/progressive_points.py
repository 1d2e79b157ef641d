"""The prefixes that bench/progressive.py measures: what each has, takes, and answers.

Legend: N images, C features, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from coarse_categories import CATEGORIES
from progressive_correction import Correction
from progressive_features import Float32Array, Pictures
from progressive_heads import Classes, Head, Sample, mean_kl, round_head, train_head
from progressive_levels import Symbols, coarsen, larger_than, multiples_of, nothing

from squeezenet.client import Classifier
from squeezenet.codec.container import encode
from squeezenet.codec.range_weights import encode_weights
from squeezenet.codec.types import CompressedLayer, CompressedModel
from squeezenet.evaluation.metrics import compare, score, softmax
from squeezenet.evaluation.predict import LabelledLogits
from squeezenet.images.batches import EvalBatches
from squeezenet.images.sets import FolderImages

_LAMBDAS = (3e-8, 1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 3e-5)
_MAX_ROUNDING_KL = 0.05
"""Of the λ tried, the largest whose rounding costs at most so many nats on held-out pictures."""
_USELESS_KL = 0.5
"""From this much rounding on, larger λ are not tried."""
ROOM = 0.02
"""Share of its bytes by which a file may grow."""
_EPOCHS, _CLASSIFIER_EPOCHS = 24, 12
_HELD_OUT = 10
"""Every tenth picture to learn from is held out."""
_CORRECTION_PICTURES = 64


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Accuracy in percent on one set, and agreement (percent) and KL (nats) with the whole file."""

    top1: float
    top5: float
    agreement: float
    kl: float
    top1_difference: float
    standard_error: float


@dataclass(frozen=True, kw_only=True)
class Point:
    """A prefix that answers: bytes received, bytes that the whole file grows by, its accuracy."""

    group: str
    name: str
    received: int
    added: int
    note: str = ""
    sets: dict[str, Measured] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class File:
    """A model, its pictures, and the bytes of its parts."""

    model: CompressedModel
    pictures: Mapping[str, Pictures]
    num_bytes: int

    @property
    def weight_bytes(self) -> int:
        return len(encode_weights(self.model.layers))

    @property
    def other_bytes(self) -> int:
        """Header, graph, class names and activation scales: a prefix cannot do without them."""
        return self.num_bytes - self.weight_bytes

    def until(self, fire: str) -> list[CompressedLayer]:
        """Return the layers up to a Fire module."""
        names = [layer.name.split("/")[0] for layer in self.model.layers]
        last = len(names) - names[::-1].index(fire)
        return list(self.model.layers[:last])

    @property
    def tests(self) -> dict[str, Pictures]:
        return {name: each for name, each in self.pictures.items() if name != "train"}

    def samples(self, fire: str) -> tuple[Sample, Sample]:
        """Return the pictures to learn from, with mirrored ones, and those held out."""
        train = self.pictures["train"]
        num = len(train.labels) // 2
        held = np.arange(2 * num) % num % _HELD_OUT == 0
        learn, held_out = ~held, held & (np.arange(2 * num) < num)
        x_NC, z_NK = train.features_NC[fire], train.logits_NK
        return (
            Sample(features_NC=x_NC[learn], logits_NK=z_NK[learn]),
            Sample(features_NC=x_NC[held_out], logits_NK=z_NK[held_out]),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A rounded head, and its KL on held-out pictures: all of it, and what rounding has added."""

    head: Head
    kl: float
    rounding_kl: float
    note: str


def measure(logits_NK: Float32Array, pictures: Pictures) -> Measured:
    """Compare logits with the labels and with the whole network's logits."""
    indices = np.arange(len(pictures.labels))
    mine, whole = (
        LabelledLogits(logits_NK=z_NK, labels=pictures.labels, indices=indices, skipped=0)
        for z_NK in (logits_NK, pictures.logits_NK)
    )
    accuracy, comparison = score(mine), compare(mine, whole)
    return Measured(
        top1=accuracy.top1,
        top5=accuracy.top5,
        agreement=comparison.agreement,
        kl=comparison.kl,
        top1_difference=comparison.top1_difference,
        standard_error=comparison.top1_standard_error,
    )


def exit_points(file: File, fire: str, ranks: Sequence[int | None]) -> Iterator[Point]:
    """Measure early exits after a Fire module; a rank of None is one matrix.

    Each rank is one point, and so is the best of all that the file has room for (``ROOM``).
    """
    before = file.until(fire)
    yield from _points(file, fire, ranks, None, before, file.model.layers[len(before) :])


def classifier_points(file: File, fire: str, ranks: Sequence[int | None]) -> Iterator[Point]:
    """Measure exits through the network's own classifier, which then comes early in the file."""
    before, conv10 = file.until(fire), file.model.layers[-1]
    yield from _points(file, fire, ranks, conv10, before, file.model.layers[len(before) : -1])


def _points(
    file: File,
    fire: str,
    ranks: Sequence[int | None],
    conv10: CompressedLayer | None,
    before: list[CompressedLayer],
    after: Sequence[CompressedLayer],
) -> Iterator[Point]:
    """Measure exits of several ranks in a file of the layers before, head (conv10), after."""
    learn, held_out = file.samples(fire)
    classifier: Classes | None = None
    if conv10 is not None:
        w_KC = conv10.weights.dequantize()[:, :, 0, 0].astype(np.float64)
        classifier = w_KC, conv10.bias_O.astype(np.float64)
    best: tuple[float, Point] | None = None
    for rank in ranks:
        name = f"{fire}, " + (f"rank {rank}" if rank else "full matrix")
        chosen = None
        for candidate in fit(learn, held_out, rank, classifier):
            first = [*before, *candidate.head.matrices, *([conv10] if conv10 else [])]
            point = Point(
                group="exit" if conv10 is None else "classifier",
                name=name if conv10 is None else f"{name}, then conv10",
                received=file.other_bytes + len(encode_weights(first)),
                added=len(encode_weights([*first, *after])) - file.weight_bytes,
                note=candidate.note,
                sets={
                    test: measure(candidate.head.logits(pictures.features_NC[fire]), pictures)
                    for test, pictures in file.tests.items()
                },
            )
            if candidate.rounding_kl <= _MAX_ROUNDING_KL or chosen is None:
                chosen = point
            fits = point.added <= ROOM * file.num_bytes
            if fits and (best is None or candidate.kl < best[0]):
                best = candidate.kl, dataclasses.replace(point, group=f"{point.group}, 2%")
        assert chosen is not None
        yield chosen
    if best is not None:
        yield best[1]


def category_point(file: File, fire: str) -> Point:
    """Measure an exit that names an everyday category; pictures of other classes are left out."""
    groups = [list(indices) for indices in CATEGORIES.values()]
    grouped = {index for group in groups for index in group}
    groups.append([i for i in range(file.pictures["train"].logits_NK.shape[1]) if i not in grouped])

    def log_sums(z_NK: Float32Array) -> Float32Array:
        p_NK = softmax(z_NK)
        sums = np.stack([p_NK[:, group].sum(axis=1) for group in groups], axis=1)
        logs_NK: Float32Array = np.log(np.maximum(sums, 1e-9)).astype(np.float32)
        return logs_NK

    learn, held_out = (
        Sample(features_NC=s.features_NC, logits_NK=log_sums(s.logits_NK))
        for s in file.samples(fire)
    )
    candidates = list(fit(learn, held_out, None, None))
    within = [each for each in candidates if each.rounding_kl <= _MAX_ROUNDING_KL]
    head = (within or candidates)[-1 if within else 0].head
    before = file.until(fire)
    num_bytes = len(encode_weights([*before, *head.matrices])) - len(encode_weights(before))
    sets, whole = {}, []
    for name, pictures in file.tests.items():
        group_of = {index: g for g, group in enumerate(groups[:-1]) for index in group}
        labels = np.array([group_of.get(label, -1) for label in pictures.labels.tolist()])
        kept = labels >= 0
        grouped_pictures = Pictures(
            logits_NK=log_sums(pictures.logits_NK[kept]), features_NC={}, labels=labels[kept]
        )
        sets[name] = measure(head.logits(pictures.features_NC[fire][kept]), grouped_pictures)
        whole.append(f"{measure(grouped_pictures.logits_NK, grouped_pictures).top1:.1f}")
    return Point(
        group="categories",
        name=f"{fire}, {len(groups) - 1} categories",
        received=file.other_bytes + len(encode_weights(before)) + num_bytes,
        added=num_bytes,
        note=f"whole file {' and '.join(whole)}",
        sets=sets,
    )


def fit(
    learn: Sample, held_out: Sample, rank: int | None, classifier: Classes | None
) -> Iterator[Candidate]:
    """Train a head and round it, with growing λ."""
    epochs = _EPOCHS if classifier is None else _CLASSIFIER_EPOCHS
    matrices = train_head(learn, held_out, rank, classifier, epochs=epochs)
    exact = mean_kl(matrices, classifier, held_out)
    for lambda_ in _LAMBDAS:
        head = round_head(matrices, learn, lambda_, classifier)
        kl = mean_kl(head.float_matrices, classifier, held_out)
        note = f"λ {lambda_:g}; held out: {exact:.2f} nats, rounded {kl:.2f}"
        yield Candidate(head=head, kl=kl, rounding_kl=kl - exact, note=note)
        if kl > exact + _USELESS_KL:
            return


def refinement_points(file: File, sets: dict[str, FolderImages]) -> Iterator[Point]:
    """Measure coarse levels: as they are, and with corrected biases, and scales too."""
    preprocessing = file.model.record.preprocessing
    calib = sets["train"].subset(range(len(sets["train"]) - 1000, len(sets["train"]), 7))
    crops = [b.pixels_NHWC for b in EvalBatches(calib, preprocessing, workers=0)]
    pixels_NHWC = np.concatenate(crops)[:_CORRECTION_PICTURES]
    batches = {
        name: EvalBatches(images, preprocessing, workers=0)
        for name, images in sets.items()
        if name != "train"
    }
    corrections = {
        "as it is": None,
        "biases": Correction(pixels_NHWC=pixels_NHWC, scales=False),
        "scales and biases": Correction(pixels_NHWC=pixels_NHWC, scales=True),
    }
    for name, rules in _refinements(file):
        for how, correction in corrections.items():
            coarse = coarsen(file.model, rules, correction)
            network = Classifier(encode(coarse.model))
            found = {}
            for test, images in batches.items():
                z_NK = np.concatenate([network.logits(b.pixels_NHWC) for b in images])
                found[test] = measure(z_NK, file.pictures[test])
            total = coarse.coarse_bytes + coarse.refinement_bytes
            yield Point(
                group=f"refinement, {how}",
                name=name,
                received=file.other_bytes + coarse.coarse_bytes,
                added=total - file.weight_bytes,
                sets=found,
            )


def _refinements(file: File) -> Iterator[tuple[str, dict[str, Symbols]]]:
    """Yield names and rules of coarse networks; layers without a rule are exact."""
    names = [layer.name for layer in file.model.layers]
    stem, *others = names
    late = names[len(file.until("fire5")) :]
    wide = [name for name in late if name.endswith("3x3")]
    for least in (2, 3):
        yield (
            f"all but {stem}: levels of {least} and more",
            dict.fromkeys(others, larger_than(least)),
        )
    for step in (2, 4):
        yield f"all but {stem}: multiples of {step}", dict.fromkeys(others, multiples_of(step))
    yield "after fire5: levels of 3 and more", dict.fromkeys(late, larger_than(3))
    yield "after fire5: multiples of 4", dict.fromkeys(late, multiples_of(4))
    yield "conv10: multiples of 4", {names[-1]: multiples_of(4)}
    yield "3x3 after fire5: multiples of 4", dict.fromkeys(wide, multiples_of(4))
    yield "3x3 after fire5: left out", dict.fromkeys(wide, nothing)
    yield "3x3 of fire9: left out", {wide[-1]: nothing}
    yield "3x3 of fire8 and fire9: left out", dict.fromkeys(wide[-2:], nothing)
