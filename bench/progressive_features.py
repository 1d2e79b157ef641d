"""Pictures run once, and pooled features after some layers, for bench/progressive.py.

Features are those of the integer client: the network is cut after a Fire module, and its head
copies each channel, so that its logits are the mean of each channel over all positions.

Legend: N images, C channels, K classes, O output channels, H W C of a crop.
"""

from __future__ import annotations

import dataclasses
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from squeezenet.arch.graph import build_graph
from squeezenet.arch.quantized_tensors import scaled_tensors
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.spec import HeadSpec, SqueezeNetSpec
from squeezenet.client import Classifier
from squeezenet.codec.container import encode
from squeezenet.codec.types import CompressedLayer, CompressedModel, LevelWeights
from squeezenet.images.batches import EvalBatches
from squeezenet.images.folders import read_class_folders, read_unlabelled
from squeezenet.images.sets import FolderImages

Float32Array = npt.NDArray[np.float32]
_CIFAR_TRAIN, _CIFAR_TEST = 1000, 200
"""Pictures per class, of 5,000 and 1,000."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """A set seen by the whole network and by its first layers.

    ``logits_NK`` are the whole network's. ``features_NC`` has the pooled features by Fire module.
    ``labels`` (N,) are indices of the model's classes, except in ``train``, where none is used.
    """

    logits_NK: Float32Array
    features_NC: Mapping[str, Float32Array]
    labels: npt.NDArray[np.int64]


def cut(model: CompressedModel, fire: str, head: CompressedLayer) -> CompressedModel:
    """Return the network up to a Fire module (and its pool) with another head, without ReLU."""
    spec = model.record.spec
    assert isinstance(spec, SqueezeNetSpec) and model.activations is not None
    num_fires = spec.fire_names.index(fire) + 1
    kept = ("conv1", *spec.fire_names[:num_fires])
    num_classes = len(head.bias_O)
    names = model.record.class_names
    same_classes = num_classes == len(names)
    short = dataclasses.replace(
        spec,
        fires=spec.fires[:num_fires],
        pools=tuple(pool for pool in spec.pools if pool.after in kept),
        head=HeadSpec(),
        num_classes=num_classes,
    )
    record = ModelRecord(
        spec=short,
        preprocessing=model.record.preprocessing,
        class_names=names if same_classes else tuple(f"channel {i}" for i in range(num_classes)),
        class_ids=model.record.class_ids if same_classes else (),
        provenance=model.record.provenance,
    )
    layers = tuple(x for x in model.layers if x.name.split("/")[0] in kept)
    activations = {name: model.activations[name] for name in scaled_tensors(build_graph(short))}
    return CompressedModel(record=record, layers=(*layers, head), activations=activations)


def run_sets(
    model: CompressedModel, fires: tuple[str, ...], sets: Mapping[str, FolderImages], work: Path
) -> dict[str, Pictures]:
    """Run every set through the network and its first layers; results are kept in ``work``.

    A set named ``train`` is run mirrored, too: its mirrored pictures are the second half.
    """
    data = encode(model)
    runs = {"": Classifier(data)}
    runs |= {fire: Classifier(encode(cut(model, fire, _copy(model, fire)))) for fire in fires}
    found = {}
    for name, images in sets.items():
        path = work / f"{data[-4:].hex()}-{name}.npz"  # a file ends with its CRC-32
        if not path.is_file():
            arrays: dict[str, Any] = _run(model, runs, images, mirrored=name == "train")
            np.savez(path, **arrays)
            print(f"{name}: {len(images):,} pictures", flush=True)
        with np.load(path) as kept:
            found[name] = Pictures(
                logits_NK=kept["logits"],
                features_NC={fire: kept[fire] for fire in fires},
                labels=kept["labels"],
            )
    return found


def imagenet_sets(shared: Path, model: CompressedModel) -> dict[str, FolderImages]:
    """Return the pictures to learn from and the two sets that report; labels are the model's."""
    calib = [read_unlabelled(shared / name) for name in ("photos", "imagenet-train1k")]
    paths = tuple(path for images in calib for path in images.paths)
    sets = {"train": _unlabelled(paths)}
    for name in ("imagenet-val500", "imagenet-val643"):
        images = read_class_folders(shared / name)
        index = np.array([model.record.class_ids.index(wnid) for wnid in images.class_names])
        sets[name] = images.subset(range(len(images)), index[images.labels])
    return sets


def cifar_sets(shared: Path, work: Path) -> dict[str, FolderImages]:
    """Unpack part of CIFAR-10 into ``work``, and return it."""
    root = work / "cifar10"
    if not root.is_dir():
        counts: dict[str, int] = {}
        with tarfile.open(shared / "cifar10-jpeg.tar.gz") as archive:
            for member in archive:
                split, *_ = parts = Path(member.name).parts[-3:]
                key = "/".join(parts[:2])
                limit = _CIFAR_TRAIN if split == "train" else _CIFAR_TEST
                if member.isfile() and counts.setdefault(key, 0) < limit:
                    counts[key] += 1
                    archive.extract(member, root, filter="data")
    top = next(path.parent for path in sorted(root.rglob("train")) if path.is_dir())
    return {"train": read_class_folders(top / "train"), "test": read_class_folders(top / "test")}


def _run(
    model: CompressedModel, runs: Mapping[str, Classifier], images: FolderImages, *, mirrored: bool
) -> dict[str, Any]:
    """Return logits, labels and features of a set, decoded once."""
    found: dict[tuple[bool, str], list[Float32Array]] = {}
    labels = []
    for batch in EvalBatches(images, model.record.preprocessing, workers=0):
        labels.append(batch.labels)
        for mirror in (False, True)[: 1 + mirrored]:
            pixels_NHWC = batch.pixels_NHWC
            if mirror:
                pixels_NHWC = np.ascontiguousarray(pixels_NHWC[:, :, ::-1])
            for name, network in runs.items():
                found.setdefault((mirror, name), []).append(network.logits(pixels_NHWC))
    whole = {
        name: np.concatenate([*found[False, name], *found.get((True, name), [])]) for name in runs
    }
    all_labels = np.concatenate(labels * (1 + mirrored))
    return {"logits": whole.pop(""), "labels": all_labels, **whole}


def _copy(model: CompressedModel, fire: str) -> CompressedLayer:
    """Return a head that copies the channels after a Fire module."""
    spec = model.record.spec
    assert isinstance(spec, SqueezeNetSpec)
    num_channels = spec.fires[spec.fire_names.index(fire)].out_channels
    identity_OIHW = np.eye(num_channels, dtype=np.int8)[:, :, None, None]
    weights = LevelWeights(levels_OIHW=identity_OIHW, scales_O=np.ones(num_channels, np.float32))
    return CompressedLayer(
        name=model.layers[-1].name, weights=weights, bias_O=np.zeros(num_channels, np.float32)
    )


def _unlabelled(paths: tuple[Path, ...]) -> FolderImages:
    return FolderImages(
        paths=paths, labels=np.zeros(len(paths), np.int64), class_names=("unlabelled",)
    )
