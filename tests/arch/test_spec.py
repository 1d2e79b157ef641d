"""Specs: the published networks, the metaparameter family, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from squeezenet.arch.counts import count
from squeezenet.arch.family import from_metaparameters
from squeezenet.arch.graph import build_graph
from squeezenet.arch.presets import PRESETS, preset, squeezenet1_0, squeezenet1_1
from squeezenet.arch.spec import (
    AlexNetSpec,
    ConvSpec,
    FireSpec,
    HeadSpec,
    PoolSpec,
    SqueezeNetSpec,
    small_input,
    with_bypass,
)
from squeezenet.errors import SpecError, UnknownNameError

FIRE = FireSpec(s1x1=4, e1x1=8, e3x3=8)
STEM = ConvSpec(out_channels=16, kernel=3)


def network(**changes: object) -> SqueezeNetSpec:
    return SqueezeNetSpec(
        **{"name": "n", "stem": STEM, "fires": (FIRE, FIRE), "pools": (), **changes}
    )


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("squeezenet1_0", 1_248_424),
        ("squeezenet1_1", 1_235_496),
        ("squeezenet1_0_simple_bypass", 1_248_424),
        # Figure 2 of the paper as drawn: 1x1 convolutions around fire2, 4, 6 and 8.
        ("squeezenet1_0_complex_bypass", 1_589_672),
        ("alexnet", 60_965_224),
        ("squeezenet_cifar", 675_114),
        ("alexnet_cifar", 34_605_642),
    ],
)
def test_published_parameter_counts(name: str, parameters: int) -> None:
    assert count(build_graph(preset(name))).parameters == parameters


def test_parameters_by_hand() -> None:
    # stem: 3*3*3*16+16; each Fire module 16->4->8+8: 16*4+4 + 4*8+8 + 4*8*9+8; head: 16*10+10.
    fire = 16 * 4 + 4 + 4 * 8 + 8 + 4 * 8 * 9 + 8
    expected = 3 * 9 * 16 + 16 + 2 * fire + 16 * 10 + 10
    counts = count(build_graph(network(num_classes=10, input_size=(8, 8))))
    assert counts.parameters == expected
    assert counts.weight_bytes == 4 * expected
    # All layers have 6x6 output positions.
    weights = 3 * 9 * 16 + 2 * (16 * 4 + 4 * 8 + 4 * 8 * 9) + 16 * 10
    assert counts.macs == 36 * weights


def test_family_gives_v1_0_exactly() -> None:
    assert from_metaparameters() == squeezenet1_0()
    assert from_metaparameters(name="x") == dataclasses.replace(squeezenet1_0(), name="x")


@pytest.mark.parametrize("sr", [0.125, 0.25, 0.5, 0.75, 1.0])
def test_family_squeeze_ratio(sr: float) -> None:
    spec = from_metaparameters(squeeze_ratio=sr)
    assert [fire.s1x1 for fire in spec.fires] == [int(sr * f.out_channels) for f in spec.fires]
    build_graph(spec)


@pytest.mark.parametrize("pct", [0.0, 0.01, 0.125, 0.5, 0.99])
def test_family_fraction_of_3x3(pct: float) -> None:
    for fire in from_metaparameters(pct3x3=pct).fires:
        assert fire.e3x3 >= 1
        assert fire.e3x3 == max(1, int(pct * fire.out_channels + 0.5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pct3x3": 1.0}, "pct3x3 is 1.0"),
        ({"squeeze_ratio": 0.0}, "squeeze ratio is 0.0"),
        ({"squeeze_ratio": 1.5}, "squeeze ratio is 1.5"),
        ({"freq": 0}, "freq 0"),
        ({"base_e": 2, "incr_e": 0, "pct3x3": 0.9}, "expected at least one 1x1 filter"),
    ],
)
def test_family_refuses(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        from_metaparameters(**arguments)


def test_simple_bypass_is_the_papers() -> None:
    kinds = [fire.bypass for fire in with_bypass(squeezenet1_0(), "simple").fires]
    assert kinds == ["none", "identity"] * 4  # fire3, 5, 7, 9
    kinds = [fire.bypass for fire in with_bypass(squeezenet1_0(), "complex").fires]
    assert kinds == ["conv", "identity"] * 4


def test_small_input_keeps_resolution() -> None:
    spec = small_input(squeezenet1_1(), (32, 32))
    tensors = build_graph(spec).tensors
    assert (tensors["conv1"].height, tensors["fire9"].height) == (32, 8)
    tiny = small_input(squeezenet1_1(), (8, 8))
    assert build_graph(tiny).tensors["fire9"].height == 4


def test_preset_changes() -> None:
    spec = preset("squeezenet1_1", num_classes=10, input_size=(32, 32), batch_norm=True)
    assert isinstance(spec, SqueezeNetSpec)
    assert spec.stem.stride == 1 and spec.batch_norm and spec.num_classes == 10
    assert preset("squeezenet1_1", input_size=(128, 128)).input_size == (128, 128)


def test_unknown_preset_lists_the_names() -> None:
    with pytest.raises(UnknownNameError, match="resnet.*expected one of squeezenet1_0"):
        preset("resnet")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FireSpec(s1x1=0, e1x1=8, e3x3=8), "s1x1: found 0"),
        (lambda: FireSpec(s1x1=17, e1x1=8, e3x3=8), "s1x1 is 17, expected at most .* 16"),
        (lambda: FireSpec(s1x1=4, e1x1=True, e3x3=8), "e1x1: found True"),
        (lambda: FireSpec(s1x1=4, e1x1=8, e3x3=8, bypass="x"), "bypass is 'x'"),
        (lambda: ConvSpec(out_channels=8, kernel=0), "kernel: found 0"),
        (lambda: ConvSpec(out_channels=8, kernel=3, groups=3), "expected a multiple of 3 groups"),
        (lambda: PoolSpec(after="conv1", kernel=2, stride=3), "stride: found 3"),
        (lambda: HeadSpec(dropout=1.0), "dropout is 1.0"),
        (lambda: HeadSpec(padding=2), "padding: found 2"),
        (lambda: network(fires=()), "number of Fire modules: found 0"),
        (lambda: network(num_classes=0), "num_classes: found 0"),
        (lambda: network(name=""), "network name"),
        (lambda: network(input_size=(0, 8)), "input_size: found 0"),
        (lambda: network(pools=(PoolSpec(after="fire9"),)), "pool after 'fire9'"),
        (lambda: network(pools=(PoolSpec(after="conv1"),) * 2), "two pools"),
        (
            lambda: network(fires=(dataclasses.replace(FIRE, e1x1=9, bypass="identity"),)),
            "identity bypass from 16 to 17",
        ),
        (
            lambda: AlexNetSpec(
                name="a", convs=(ConvSpec(out_channels=4, kernel=3, groups=2),), pools=(), hidden=()
            ),
            "3 input channels, expected a multiple of 2 groups",
        ),
        (lambda: small_input(squeezenet1_1(), (64, 64)), "expected at most 32x32"),
    ],
)
def test_invalid_specs_are_refused_with_the_reason(build: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build()


def test_too_small_an_input_is_refused_at_the_layer_that_has_no_positions() -> None:
    with pytest.raises(SpecError, match="at pool4 only 2x2 positions are left"):
        build_graph(dataclasses.replace(squeezenet1_0(), input_size=(16, 16)))


def test_every_preset_builds() -> None:
    for name in PRESETS:
        graph = build_graph(preset(name))
        assert graph.spec.name == name and graph.convs[-1].out_channels == graph.spec.num_classes


def test_network_larger_than_the_limits_is_refused() -> None:
    wide = FireSpec(s1x1=32_768, e1x1=32_768, e3x3=32_768)
    with pytest.raises(SpecError, match="weights, expected at most 134217728"):
        build_graph(network(fires=(wide,), input_size=(16, 16)))
