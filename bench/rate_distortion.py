"""Rate and distortion of method rd, NNCodec and Deep Compression, from the same weights.

    python bench/rate_distortion.py ../shared/data --work rate-distortion
    python bench/rate_distortion.py ../shared/data --work rate-distortion --network squeezenet1_1

Compresses a network's ImageNet weights at several settings of each method, and evaluates all files
on ``imagenet-val500``. Writes a table, WORK/NETWORK/rate_distortion.json, and a plot of all
networks that WORK has results of, WORK/rate_distortion.png and .svg. All methods are evaluated in
float32; files of rd also in integers, as clients run them.

Files of rd include class names, preprocessing and activation scales; NNCodec's have weights alone.
So the size of rd's section WEIGHTS is reported, too. NNCodec is installed into an environment of
its own, WORK/nncodec-env, which needs a C++ compiler. A second call resumes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from commands import squeezenet
from matplotlib.figure import Figure
from nncodec_environment import code

from squeezenet.codec.container import decode
from squeezenet.codec.range_weights import encode_weights

_NETWORKS = {
    "squeezenet1_0": ("compressed_SqueezeNet.net", "v1.0, the authors' weights"),
    "squeezenet1_1": ("squeezenet1_1-fp16.pth", "v1.1, torchvision's weights"),
}
"""The file in the shared data, and its name in the plot."""
_DIVERGENCES = (0.008, 0.0165, 0.035, 0.07, 0.11, 0.28, 0.6, 1.0)
_QPS = (-38, -36, -34, -32, -30, -28, -26, -24, -22, -20)
_DENSITIES = ((0.4, 8), (0.4, 6), (0.33, 5), (0.25, 4))
_ENVIRONMENT = "nncodec-env"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path, help="the folder with the file and the photographs")
    parser.add_argument("--work", type=Path, required=True, help="folder for files and results")
    parser.add_argument("--network", choices=_NETWORKS, default="squeezenet1_0")
    parser.add_argument(
        "--calib", nargs="+", default=["imagenet-train1k"], help="folders of SHARED to learn from"
    )
    parser.add_argument("--effort", default="medium", help="of rd")
    parser.add_argument(
        "--divergences", nargs="+", type=float, default=_DIVERGENCES, help="settings of rd"
    )
    parser.add_argument("--skip", nargs="*", default=[], help="methods to leave out")
    options = parser.parse_args()
    work = options.work
    options.environment = work / _ENVIRONMENT
    options.work = work / options.network
    options.work.mkdir(parents=True, exist_ok=True)
    points: list[dict[str, Any]] = []
    for method, files in (
        ("rd", _rd), ("NNCodec", _nncodec), ("Deep Compression", _deep_compression)
    ):  # fmt: skip
        if method not in options.skip:
            points += [_point(method, *found, options) for found in files(options)]
    points.sort(key=lambda point: (point["method"], point["bytes"]))
    (options.work / "rate_distortion.json").write_text(json.dumps(points, indent=1))
    print("| method | setting | bytes | top-1 | top-5 | agreement, % | KL, nats | in integers |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for p in points:
        print(
            f"| {p['method']} | {p['setting']} | {p['bytes']:,} | {p['top1']:.1f} | "
            f"{p['top5']:.1f} | {p['agreement']:.1f} | {p['kl']:.4f} | "
            + (
                f"{p['top1_int']:.1f}/{p['top5_int']:.1f}, {p['kl_int']:.4f} |"
                if "kl_int" in p
                else "|"
            )
        )
    _compare(points)
    _plot(work)


def _start(options: argparse.Namespace) -> Path:
    shared: Path = options.shared
    return shared / _NETWORKS[options.network][0]


def _calibration(options: argparse.Namespace) -> list[object]:
    return [word for name in options.calib for word in ("--calib", options.shared / name)]


def _rd(options: argparse.Namespace) -> list[tuple[str, Path, int]]:
    found = []
    for divergence in options.divergences:
        out = options.work / f"rd-{options.effort}-{divergence}.sqz"
        if not out.is_file():
            squeezenet(
                "compress", _start(options), *_calibration(options),
                "--divergence", divergence, "--effort", options.effort, "--out", out,
            )  # fmt: skip
        found.append((f"{options.effort}, {divergence}", out, out.stat().st_size))
    return found


def _deep_compression(options: argparse.Namespace) -> list[tuple[str, Path, int]]:
    found = []
    for density, bits in _DENSITIES:
        out = options.work / f"dc-{density}-{bits}.sqz"
        if not out.is_file():
            squeezenet(
                "compress", _start(options), *_calibration(options),
                "--method", "deep-compression", "--density", density, "--bits", bits,
                "--prune-epochs", 20, "--share-epochs", 8, "--out", out,
            )  # fmt: skip
        found.append((f"density {density}, {bits} bits", out, out.stat().st_size))
    return found


def _nncodec(options: argparse.Namespace) -> list[tuple[str, Path, int]]:
    out = options.work / "nncodec"
    missing = [qp for qp in _QPS if not (out / f"qp{qp}.npz").is_file()]
    weights = options.work / "weights.npz"
    model = _load(_start(options))
    if missing:
        state = {name: value.numpy() for name, value in model.module.state_dict().items()}
        np.savez(weights, **state)
        code(weights, out, missing, options.environment)
    found = []
    for qp in _QPS:
        file = out / f"qp{qp}.safetensors"
        if not file.is_file():
            _save(model, out / f"qp{qp}.npz", file)
        found.append((f"qp {qp}", file, (out / f"qp{qp}.nnc").stat().st_size))
    return found


def _load(path: Path) -> Any:
    from squeezenet.model.load import load_model

    return load_model(path)


def _save(model: Any, arrays: Path, out: Path) -> None:
    import torch

    from squeezenet.model.safetensors_file import save_safetensors

    with np.load(arrays) as found:
        state = {
            name: torch.from_numpy(found[name].astype(np.float32)).reshape(value.shape)
            for name, value in model.module.state_dict().items()
        }
    save_safetensors(out, model.record, state)


def _point(
    method: str, setting: str, file: Path, size: int, options: argparse.Namespace
) -> dict[str, Any]:
    point = {"method": method, "setting": setting, "bytes": size}
    point |= _evaluated(file, options, "--float")
    if method == "rd":
        layers = decode(file.read_bytes(), str(file)).layers
        point["weight_bytes"] = len(encode_weights(layers))
        integers = _evaluated(file, options)
        point |= {f"{key}_int": value for key, value in integers.items()}
    return point


def _evaluated(file: Path, options: argparse.Namespace, *how: str) -> dict[str, float]:
    cache = file.with_name(file.name + "".join(how) + ".evaluated.json")
    if not cache.is_file():
        data = options.shared / "imagenet-val500"
        found = squeezenet("eval", file, data, "--against", _start(options), *how)
        cache.write_text(json.dumps(found))
    evaluated = json.loads(cache.read_text())
    return {key: _find(evaluated, key) for key in ("top1", "top5", "agreement", "kl")}


def _find(evaluated: dict[str, Any], key: str) -> float:
    if key in evaluated:
        return float(evaluated[key])
    return float(evaluated["against"][key])


def _compare(points: list[dict[str, Any]]) -> None:
    """Print how many fewer bytes rd needs at NNCodec's KL, interpolated between measured points."""
    rd = [p for p in points if p["method"] == "rd"]
    for p in points:
        if p["method"] != "NNCodec":
            continue
        comparisons = [
            f"{what} {_fewer(rd, p, key, size)}"
            for what, key, size in (
                ("file", "kl", "bytes"),
                ("weights alone", "kl", "weight_bytes"),
                ("file in integers", "kl_int", "bytes"),
            )
        ]
        print(f"at KL {p['kl']:.4f}: NNCodec {p['bytes']:,} bytes, rd: {'; '.join(comparisons)}")


def _fewer(rd: list[dict[str, Any]], other: dict[str, Any], key: str, counted: str) -> str:
    ours = sorted((p[key], p[counted]) for p in rd)
    if not ours or other["kl"] < ours[0][0]:
        return "not measured"
    kl, sizes = zip(*ours, strict=True)
    if other["kl"] > kl[-1]:  # ours is smaller still
        return f"under {sizes[-1]:,} (over {100 * (1 - sizes[-1] / other['bytes']):.1f}% fewer)"
    size = float(np.exp(np.interp(np.log(other["kl"]), np.log(kl), np.log(sizes))))
    return f"{size:,.0f} ({100 * (1 - size / other['bytes']):.1f}% fewer)"


def _plot(work: Path) -> None:
    """A row of two plots per network that there are results of."""
    found = {
        title: json.loads(file.read_text())
        for network, (_, title) in _NETWORKS.items()
        if (file := work / network / "rate_distortion.json").is_file()
    }
    figure = Figure(figsize=(10, 4.2 * len(found)), layout="constrained")
    rows = figure.subplots(len(found), 2, squeeze=False, sharex=True)
    for (title, points), axes in zip(found.items(), rows, strict=True):
        _plot_network(title, points, axes)
    for each in rows[-1]:
        each.set_xlabel("file, kB")
    for ending in ("png", "svg"):
        figure.savefig(work / f"rate_distortion.{ending}", dpi=120)


def _plot_network(title: str, points: list[dict[str, Any]], axes: Any) -> None:
    for method, colour in (("rd", "C0"), ("NNCodec", "C1"), ("Deep Compression", "C2")):
        chosen = [p for p in points if p["method"] == method]
        if not chosen:
            continue
        kilobytes = [p["bytes"] / 1000 for p in chosen]
        axes[0].plot(kilobytes, [p["kl"] for p in chosen], "o-", color=colour, label=method)
        if method == "rd":
            divergences = [p["kl_int"] for p in chosen]
            axes[0].plot(kilobytes, divergences, "o:", color=colour, label="rd, in integers")
        axes[1].plot(kilobytes, [p["top1"] for p in chosen], "o-", color=colour, label=method)
        axes[1].plot(kilobytes, [p["top5"] for p in chosen], "s--", color=colour)
    axes[0].set_yscale("log")
    axes[0].set_ylabel("KL divergence from the original, nats")
    axes[1].set_ylabel("top-1 (solid) and top-5 (dashed), %")
    for each in axes:
        each.set_title(title)
        each.grid(alpha=0.3)
        each.legend()


if __name__ == "__main__":
    main()
