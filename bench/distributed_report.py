"""Tables and plot of ``bench/distributed.py``, with its model carried on to more machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distributed_model import Averaging, Machine, faster, step_seconds
from matplotlib.figure import Figure

_NAMES = {"squeezenet1_0": "SqueezeNet v1.0", "alexnet": "AlexNet"}
_MORE_HOSTS = (8, 64, 512)
_FASTER = 20
"""Machines that compute faster need more of their links."""
_FIRECAFFE_GPUS, _FIRECAFFE_SPEEDUP = 128, 47
"""GoogLeNet on a supercomputer's interconnect with reduction trees, arXiv 1511.00175."""
_BLUE, _ORANGE, _GREY = "#1f6fb4", "#e07b00", "#8a8a8a"


def print_report(results: dict[str, Any]) -> None:
    """Print what was measured, predicted and promised, as Markdown."""
    rows, where = results["rows"], results["environment"]
    load = " and ".join(
        f"{where[k][0]:.1f}" for k in ("load_at_start", "load_at_end") if k in where
    )
    print(
        f"{where['cpu']}, {where['cores']} cores (load {load}), Linux {where['kernel']}, torch "
        f"{where['torch']}, {'bfloat16' if where.get('bfloat16') else 'float32'} passes, "
        f"{where['images_per_host']} images per host, commit {where['commit']}, {where['date']}\n"
    )
    print(
        "| network | hook | bucket MiB | hosts | Mbit/s | rx MB | tx MB | compute s | step s "
        "| efficiency | predicted s | error |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    for row in rows:
        error = "" if row["mbit"] is None else f"{row['predicted'] / row['seconds'] - 1:+.0%}"
        predicted = "" if row["mbit"] is None else f"{row['predicted']:.2f}"
        print(
            f"| {_NAMES[row['arch']]} | {_label(row)} | {row['averaging']['bucket_mb']:g} | "
            f"{row['hosts']} | "
            f"{row['mbit'] or 'no limit'} | {row['rx'] / 1e6:.2f} | {row['tx'] / 1e6:.2f} | "
            f"{row['machine']['step']:.2f} | {row['seconds']:.2f} | {row['efficiency']:.0%} | "
            f"{predicted} | {error} |"
        )
    errors = sorted(abs(r["predicted"] / r["seconds"] - 1) for r in rows if r["mbit"])
    if errors:
        print(
            f"\nError of the prediction: median {errors[len(errors) // 2]:.1%}, "
            f"largest {errors[-1]:.1%} of {len(errors)}.\n"
        )
    _print_promises(rows)
    _print_more_hosts(rows)


def _print_promises(rows: list[dict[str, Any]]) -> None:
    """Print the ratios of bytes, of 2 hosts at 100 Mbit/s."""
    sent = {
        (row["arch"], row["averaging"]["comm_hook"]): row["tx"]
        for row in rows
        if (row["hosts"], row["mbit"]) == (2, 100)
    }
    ours, theirs = ("squeezenet1_0", "none"), ("alexnet", "none")
    if ours not in sent:
        return
    print("| bytes per step, 2 hosts | |\n|---|--:|")
    for arch, hook in sent:
        if arch == ours[0] and hook != "none":
            ratio = sent[arch, hook] / sent[ours]
            print(f"| SqueezeNet v1.0, {hook} / no hook | {ratio:.4f} |")
        if arch == ours[0] and theirs in sent:
            ratio = sent[theirs] / sent[arch, hook]
            name = "no hook" if hook == "none" else hook
            print(f"| AlexNet, no hook / SqueezeNet v1.0, {name} | {ratio:.1f} |")
    print()


def _print_more_hosts(rows: list[dict[str, Any]]) -> None:
    """Print the predicted efficiency of more machines."""
    print(
        f"| network | hook | Mbit/s | {' | '.join(map(str, _MORE_HOSTS))} | "
        f"{' | '.join(f'{n}, {_FASTER} times faster' for n in _MORE_HOSTS)} |\n"
        f"|---|---|--:|{'--:|' * 2 * len(_MORE_HOSTS)}"
    )
    for row in rows:
        if row["hosts"] == 2 and row["mbit"]:
            found = [
                predicted_efficiency(row, n, speed) for speed in (1, _FASTER) for n in _MORE_HOSTS
            ]
            cells = " | ".join(f"{value:.0%}" for value in found)
            print(f"| {_NAMES[row['arch']]} | {_label(row)} | {row['mbit']} | {cells} |")
    share = _FIRECAFFE_SPEEDUP / _FIRECAFFE_GPUS
    print(
        f"\nFireCaffe: {_FIRECAFFE_SPEEDUP} times GoogLeNet on {_FIRECAFFE_GPUS} GPUs, {share:.0%} "
        "(arXiv 1511.00175)."
    )


def predicted_efficiency(row: dict[str, Any], num_hosts: int, speed: float = 1) -> float:
    """Predict the efficiency of more machines like those of a row, or ``speed`` times faster."""
    machine = faster(Machine(**row["machine"]), speed)
    averaging = Averaging(**row["averaging"])
    overhead = max(0.0, row["overhead"]) / speed
    seconds = step_seconds(machine, averaging, num_hosts, row["mbit"], overhead)
    return machine.step / seconds


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw bytes per step, and efficiency against the number of machines."""
    rows = results["rows"]
    figure = Figure(figsize=(10, 4.6), facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
    _draw_bytes(left, [row for row in rows if (row["hosts"], row["mbit"]) == (2, 100)])
    _draw_efficiency(right, rows)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_bytes(axes: Any, rows: list[dict[str, Any]]) -> None:
    rows = sorted(rows, key=lambda row: row["tx"])
    values = [row["tx"] / 1e6 for row in rows]
    colours = [_BLUE if row["arch"] == "squeezenet1_0" else _ORANGE for row in rows]
    labels = [f"{_NAMES[row['arch']].replace('SqueezeNet ', '')}, {_label(row)}" for row in rows]
    axes.barh(range(len(rows)), values, color=colours)
    axes.set_yticks(range(len(rows)), labels)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(min(values) / 2, max(values) * 5)
    for place, value in enumerate(values):
        axes.text(value * 1.1, place, f"{value:.3g}", va="center")
    axes.set_xlabel("MB sent by a host per step, 2 hosts")
    axes.set_title("Bytes per step")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_efficiency(axes: Any, rows: list[dict[str, Any]]) -> None:
    numbers = [2**power for power in range(1, 10)]
    styles = {(1000, "none"): "-", (100, "none"): "--", (100, "int8"): ":"}
    for row in rows:
        hook, mbit = row["averaging"]["comm_hook"], row["mbit"]
        if (mbit, hook) not in styles or (hook != "none" and row["arch"] != "squeezenet1_0"):
            continue
        colour = _BLUE if row["arch"] == "squeezenet1_0" else _ORANGE
        marker = "s" if hook == "int8" else "o"
        # More hosts on the same cores are slower machines than the lines are about: hollow.
        fill = colour if row["hosts"] == 2 else "white"
        axes.plot(row["hosts"], 100 * row["efficiency"], marker, color=colour, mfc=fill, ms=5)
        if row["hosts"] != 2:
            continue
        link = "1 Gbit/s" if mbit == 1000 else "100 Mbit/s"
        name = f"{_NAMES[row['arch']]}, {link}" + (", int8" if hook == "int8" else "")
        predicted = [100 * predicted_efficiency(row, number) for number in numbers]
        axes.plot(numbers, predicted, styles[mbit, hook], color=colour, label=name)
    share = 100 * _FIRECAFFE_SPEEDUP / _FIRECAFFE_GPUS
    axes.plot(_FIRECAFFE_GPUS, share, "*", color=_GREY, markersize=11)
    axes.annotate(
        "FireCaffe: GoogLeNet,\n47 times on 128 GPUs", (_FIRECAFFE_GPUS, share), (0, -10),
        textcoords="offset points", ha="center", va="top", color="#555555", fontsize=9,
        bbox={"color": "white", "alpha": 0.8, "pad": 1},
    )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.set_ylim(0, max(105, 2 + max(100 * row["efficiency"] for row in rows)))
    axes.set_xlabel("machines")
    axes.set_ylabel("scaling efficiency, %")
    axes.set_title("Measured (points) and predicted (lines)")
    axes.grid(color="#e4e4e4")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=9, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)


def _label(row: dict[str, Any]) -> str:
    averaging = row["averaging"]
    hook: str = averaging["comm_hook"]
    return {"none": "no hook", "powersgd": f"PowerSGD rank {averaging['powersgd_rank']}"}.get(
        hook, hook
    )
