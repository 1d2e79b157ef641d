"""``squeezenet info``: what a network is and what it costs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from squeezenet.api.open_model import open_model
from squeezenet.arch.counts import NetworkCounts, count
from squeezenet.arch.graph import Graph, build_graph
from squeezenet.arch.liveness import peak_activation_bytes
from squeezenet.arch.network_file import NETWORK_SUFFIX, find_network
from squeezenet.arch.presets import PRESETS
from squeezenet.arch.record import ModelRecord
from squeezenet.cli.options import ArchOption, ClassesOption, JsonOption
from squeezenet.cli.output import make_progress, plain, print_json
from squeezenet.cli.table import Column, print_facts, print_table
from squeezenet.client import STACK_BYTES, Classifier
from squeezenet.client.latency import latency_ms
from squeezenet.codec.model_kinds import DEFAULT, find_model, model_path, read_compressed
from squeezenet.codec.sizes import layer_sizes
from squeezenet.errors import UsageError

_COLUMNS = (
    Column("layer", rank=1, shorten="end", min_width=12),
    Column("kind", rank=7, optional=True),
    Column("output", rank=5, optional=True),
    Column("parameters", rank=2, optional=True),
    Column("MACs", rank=3, optional=True),
    Column("activation bytes", rank=8, optional=True),
)
_STORED_COLUMNS = (
    Column("density %", rank=4, optional=True),
    Column("bits/weight", rank=6, optional=True),
    Column("bytes"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ClientNeeds:
    """Bytes that the C runtime asks for, with portable kernels and one thread.

    32-bit machines need a little less. ``ram`` is arena, memory and stack together. ``latency_ms``
    is the time of one image on this machine, with its fastest kernels and one thread.
    """

    flash: int
    stack: int
    arena: int
    memory: int
    arena_streamed: int
    memory_streamed: int
    ram: int
    ram_streamed: int
    latency_ms: float


def info(
    arch_or_model: Annotated[
        str,
        Parameter(
            help=f"Model file or run folder, the word {DEFAULT}, a JSON file that describes a "
            f"network (as --json prints), or one of {', '.join(PRESETS)}."
        ),
    ],
    /,
    *,
    classes: ClassesOption = None,
    arch: ArchOption = None,
    json: JsonOption = False,
) -> None:
    """Show a network's layers, parameters, operations and memory."""
    path = model_path(arch_or_model)
    record: ModelRecord | None = None
    file_bytes: int | None = None
    stored: dict[str, dict[str, Any]] = {}
    client: _ClientNeeds | None = None
    if arch_or_model in PRESETS or arch_or_model.endswith(NETWORK_SUFFIX):
        if classes is not None:
            raise UsageError(f"--classes is for a model file; {arch_or_model} is an architecture")
        spec = find_network(arch_or_model)
    elif not path.exists():
        raise UsageError(
            f"{arch_or_model!r} is neither a file or folder nor an architecture; expected one of "
            f"{', '.join(PRESETS)}"
        )
    else:
        model = open_model(path, arch, classes=classes, progress=make_progress())
        record, file_bytes, spec = model.record, model.file_bytes, model.record.spec
        if model.classifier is not None:
            client = _client_needs(path, latency_ms(model.classifier))
        del model  # and its unpacked weights, before they are unpacked once more
        stored = _stored_layers(path)
    graph = build_graph(spec)
    counts = count(graph)
    peak_bytes = peak_activation_bytes(graph)
    if json:
        layers = [dataclasses.asdict(layer) | stored.get(layer.name, {}) for layer in counts.layers]
        print_json(
            {
                "name": spec.name,
                "parameters": counts.parameters,
                "macs": counts.macs,
                "weight_bytes": counts.weight_bytes,
                "file_bytes": file_bytes,
                "activation_bytes": counts.activation_bytes,
                "peak_client_bytes": peak_bytes,
                "layers": plain(layers),
                "spec": spec,
                **({"client": plain(dataclasses.asdict(client))} if client else {}),
                **({"record": _about(record)} if record else {}),
            }
        )
        return
    _show(graph, counts, peak_bytes, file_bytes, record, stored, client)


def _stored_layers(path: Path) -> dict[str, dict[str, Any]]:
    """Return density and bits of each layer of a compressed file."""
    source = find_model(path)
    if not source.kind.is_compressed:
        return {}
    return {
        row.layer: {
            "density": row.density,
            "bits_per_weight": row.bits_per_weight,
            "bytes": row.bytes,
            "huffman_bytes": row.huffman_bytes,
        }
        for row in layer_sizes(read_compressed(source).layers)
    }


def _client_needs(path: Path, latency_ms: float) -> _ClientNeeds:
    """Return what a client needs; one after the other, since each holds the weights."""
    arena, memory = _client_memory(path, streamed=False)
    arena_streamed, memory_streamed = _client_memory(path, streamed=True)
    return _ClientNeeds(
        flash=path.stat().st_size,
        stack=STACK_BYTES,
        arena=arena,
        memory=memory,
        arena_streamed=arena_streamed,
        memory_streamed=memory_streamed,
        ram=arena + memory + STACK_BYTES,
        ram_streamed=arena_streamed + memory_streamed + STACK_BYTES,
        latency_ms=latency_ms,
    )


def _client_memory(path: Path, *, streamed: bool) -> tuple[int, int]:
    client = Classifier(path, kernels="portable", streamed=streamed)
    return client.arena_bytes, client.memory_bytes


def _about(record: ModelRecord) -> dict[str, Any]:
    return {
        "preprocessing": record.preprocessing,
        "class_names": record.class_names,
        "provenance": record.provenance,
    }


def _show(
    graph: Graph,
    counts: NetworkCounts,
    peak_bytes: int,
    file_bytes: int | None,
    record: ModelRecord | None,
    stored: dict[str, dict[str, Any]],
    client: _ClientNeeds | None,
) -> None:
    spec = graph.spec
    rows = []
    for layer in counts.layers:
        row: list[object] = [
            layer.name,
            layer.kind,
            "x".join(map(str, layer.output_shape)),
            layer.parameters,
            layer.macs,
            layer.activation_bytes,
        ]
        if stored:
            own = stored.get(layer.name, {})
            row += [own.get("density"), own.get("bits_per_weight"), own.get("bytes")]
        rows.append(row)
    columns = _COLUMNS + _STORED_COLUMNS if stored else _COLUMNS
    print_table(f"{spec.name}, {spec.num_classes} classes", columns, rows)
    print()
    facts = [
        ("input", f"{spec.input_channels}x{spec.input_size[0]}x{spec.input_size[1]}"),
        ("parameters", f"{counts.parameters:,} ({counts.weight_bytes:,} bytes in float32)"),
        ("multiply-accumulates", f"{counts.macs:,}"),
        ("activations", f"{counts.activation_bytes:,} bytes in float32, all layers together"),
        ("peak activations", f"{peak_bytes:,} bytes in int8"),
    ]
    if file_bytes is not None:
        ratio = counts.weight_bytes / file_bytes
        facts.append(("file", f"{file_bytes:,} bytes ({ratio:.1f} times smaller than float32)"))
    if client is not None:
        facts += _client_facts(client)
    if record is not None:
        facts += _record_facts(record)
    print_facts(facts)


def _client_facts(client: _ClientNeeds) -> list[tuple[str, str]]:
    latency = client.latency_ms
    return [
        (
            "RAM",
            f"{client.ram_streamed:,} bytes streamed (weights stay in flash), {client.ram:,} "
            f"unpacked; {client.stack:,} bytes of stack included",
        ),
        ("flash", f"{client.flash:,} bytes, and the code of the runtime"),
        (
            "time",
            f"about {latency:{'.0f' if latency >= 10 else '.2g'}} ms per image here, one thread; "
            "decoding and resizing not included",
        ),
    ]


def _record_facts(record: ModelRecord) -> list[tuple[str, str]]:
    prep = record.preprocessing
    names = ", ".join(record.class_names[:6])
    return [
        (
            "preprocessing",
            f"short side to {prep.resize}, centre crop {prep.crop[0]}x{prep.crop[1]}, "
            f"{prep.channels}",
        ),
        ("classes", names + (", ..." if len(record.class_names) > 6 else "")),
        ("made by", str(record.provenance.get("method", "unknown"))),
    ]
