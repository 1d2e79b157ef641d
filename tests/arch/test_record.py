"""The record in every model file, and its strict parsing."""

from __future__ import annotations

import dataclasses
import json

import pytest

from squeezenet.arch.imagenet import imagenet_classes
from squeezenet.arch.preprocessing import (
    Preprocessing,
    caffe_preprocessing,
    default_preprocessing,
    torchvision_preprocessing,
)
from squeezenet.arch.presets import alexnet, caffe_squeezenet1_0, preset
from squeezenet.arch.record import ModelRecord
from squeezenet.errors import SpecError


def imagenet_record() -> ModelRecord:
    names, ids = imagenet_classes()
    return ModelRecord(
        spec=caffe_squeezenet1_0(),
        preprocessing=caffe_preprocessing(),
        class_names=names,
        class_ids=ids,
        provenance={"source": "x"},
    )


def test_round_trip_and_equal_bytes() -> None:
    record = imagenet_record()
    text = record.to_json()
    assert ModelRecord.from_json(text) == record
    assert ModelRecord.from_json(text).to_json() == text
    alex = ModelRecord(
        spec=alexnet(),
        preprocessing=torchvision_preprocessing(resize=227, crop=(227, 227)),
        class_names=record.class_names,
        class_ids=record.class_ids,
    )
    assert ModelRecord.from_json(alex.to_json()) == alex


def test_imagenet_classes() -> None:
    names, ids = imagenet_classes()
    assert len(names) == len(set(ids)) == 1000
    assert ids == tuple(sorted(ids))
    assert names[:2] == ("tench", "goldfish") and ids[0] == "n01440764"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("preprocessing"), "'preprocessing' is missing"),
        (lambda d: d.update(extra=1), "unknown key 'extra'"),
        (lambda d: d.update(class_names=["a"]), "1 class names, expected 1000"),
        (lambda d: d.update(class_names="abc"), "found str, expected a list"),
        (lambda d: d["class_names"].__setitem__(0, ""), "has 0 characters"),
        (lambda d: d["class_ids"].__setitem__(0, d["class_ids"][1]), "999 distinct class ids"),
        (lambda d: d["spec"].update(family="resnet"), "family is 'resnet'"),
        (lambda d: d["spec"]["fires"][3].update(s1x1="many"), r"fires\[3\].s1x1: found str"),
        (lambda d: d["spec"]["fires"][3].update(s1x1=True), r"fires\[3\].s1x1: found bool"),
        (lambda d: d["spec"].update(input_size=[1, 2, 3]), "found 3 values, expected 2"),
        (lambda d: d["spec"].update(input_size=[64, 64]), "preprocessing gives 3x227x227"),
        (lambda d: d["preprocessing"].update(channels="CMYK"), "channels: found 'CMYK'"),
        (lambda d: d["preprocessing"].update(std=[1.0, 0.0, 1.0]), "expected positive values"),
        (lambda d: d["preprocessing"].update(mean=[1.0]), "expected 3 numbers"),
        (lambda d: d["preprocessing"].update(resize=10**9), "expected 1..4096"),
        (lambda d: d.update(provenance=[]), "found list, expected an object"),
    ],
)
def test_hostile_records_are_refused(change: object, message: str) -> None:
    data = json.loads(imagenet_record().to_json())
    change(data)
    with pytest.raises(SpecError, match=message):
        ModelRecord.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "[]", "nonsense", "[" * 100_000, '{"spec": 3}', "NaN"])
def test_not_a_record(text: str) -> None:
    with pytest.raises(SpecError):
        ModelRecord.from_json(text)


def test_equal_class_names_need_ids() -> None:
    record = imagenet_record()
    with pytest.raises(SpecError, match="same name"):
        dataclasses.replace(record, class_ids=())


def test_default_preprocessing() -> None:
    assert default_preprocessing(preset("squeezenet1_1")).resize == 256
    small = default_preprocessing(preset("squeezenet1_1", input_size=(32, 32)))
    assert (small.resize, small.crop) == (32, (32, 32))
    assert default_preprocessing(preset("squeezenet_tiny")).channels == "L"
    with pytest.raises(SpecError, match="2 input channels"):
        default_preprocessing(preset("squeezenet1_1", input_channels=2))


def test_crop_must_fit() -> None:
    with pytest.raises(SpecError, match="fit inside"):
        Preprocessing(resize=10, crop=(11, 5), channels="L", mean=(0.0,), std=(1.0,))
