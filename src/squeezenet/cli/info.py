"""``squeezenet info``: what a network is and what it costs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from squeezenet.api.model_argument import DEFAULT, model_path
from squeezenet.api.open_model import open_model
from squeezenet.arch.counts import NetworkCounts, count
from squeezenet.arch.graph import Graph, build_graph
from squeezenet.arch.liveness import peak_activation_bytes
from squeezenet.arch.presets import PRESETS
from squeezenet.arch.record import ModelRecord
from squeezenet.cli.options import ArchOption, JsonOption
from squeezenet.cli.output import plain, print_json, print_table
from squeezenet.client import STACK_BYTES, Classifier
from squeezenet.codec.model_kinds import ModelKind, find_model, read_compressed
from squeezenet.codec.sizes import layer_sizes
from squeezenet.errors import FloatOnlyError, UsageError


def info(
    arch_or_model: Annotated[
        str,
        Parameter(
            help=f"Model file or run folder, the word {DEFAULT}, or one of {', '.join(PRESETS)}."
        ),
    ],
    /,
    *,
    arch: ArchOption = None,
    json: JsonOption = False,
) -> None:
    """Show layers, parameters, multiply-accumulates, memory and bytes of a network."""
    path = model_path(arch_or_model)
    record: ModelRecord | None = None
    file_bytes: int | None = None
    stored: dict[str, dict[str, Any]] = {}
    client: dict[str, int] | None = None
    if arch_or_model in PRESETS:
        spec = PRESETS[arch_or_model]()
    elif not path.exists():
        raise UsageError(
            f"{arch_or_model!r} is neither a file or folder nor an architecture; expected one of "
            f"{', '.join(PRESETS)}"
        )
    else:
        model = open_model(path, arch)
        record, file_bytes, spec = model.record, model.file_bytes, model.record.spec
        stored = _stored_layers(path)
        client = _client_needs(path)
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
                **({"client": client} if client else {}),
                **({"record": _about(record)} if record else {}),
            }
        )
        return
    _show(graph, counts, peak_bytes, file_bytes, record, stored, client)


def _stored_layers(path: Path) -> dict[str, dict[str, Any]]:
    """Density and bits of each layer of a compressed file."""
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


def _client_needs(path: Path) -> dict[str, int] | None:
    """Bytes that the C runtime asks for, with plain kernels and one thread; on 32-bit machines a
    little less. None: the file is not for integer clients."""
    if find_model(path).kind is not ModelKind.SQZ:
        return None
    needs = {"flash": path.stat().st_size, "stack": STACK_BYTES}
    try:
        for streamed, suffix in ((False, ""), (True, "_streamed")):
            classifier = Classifier(path, kernels="portable", streamed=streamed)
            needs |= {
                f"arena{suffix}": classifier.arena_bytes,
                f"memory{suffix}": classifier.memory_bytes,
            }
    except FloatOnlyError:
        return None
    return needs


def _memory(arena: int, memory: int) -> str:
    return f"{arena:,} bytes of arena and {memory:,} of tables and weights"


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
    client: dict[str, int] | None,
) -> None:
    columns = ["layer", "kind", "output", "parameters", "MACs", "activation bytes"]
    if stored:
        columns += ["density %", "bits/weight", "bytes"]
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
    spec = graph.spec
    print_table(f"{spec.name}, {spec.num_classes} classes", columns, rows)
    print()
    facts = [
        ("input", f"{spec.input_channels}x{spec.input_size[0]}x{spec.input_size[1]}"),
        ("parameters", f"{counts.parameters:,} ({counts.weight_bytes:,} bytes in float32)"),
        ("multiply-accumulates", f"{counts.macs:,}"),
        ("activations", f"{counts.activation_bytes:,} bytes in float32, all of them"),
        ("alive at once", f"{peak_bytes:,} bytes in int8, at most"),
    ]
    if client is not None:
        facts += [
            ("client", f"{client['flash']:,} bytes of flash, stack under {client['stack']:,}"),
            ("client, streamed", _memory(client["arena_streamed"], client["memory_streamed"])),
            ("client, unpacked", _memory(client["arena"], client["memory"])),
        ]
    if file_bytes is not None:
        ratio = counts.weight_bytes / file_bytes
        facts.append(("file", f"{file_bytes:,} bytes ({ratio:.1f} times less than float32)"))
    if record is not None:
        prep = record.preprocessing
        facts.append(
            (
                "preprocessing",
                f"short side to {prep.resize}, centre crop {prep.crop[0]}x{prep.crop[1]}, "
                f"{prep.channels}",
            )
        )
        names = ", ".join(record.class_names[:6])
        facts.append(("classes", names + (", ..." if len(record.class_names) > 6 else "")))
        facts.append(("made by", str(record.provenance.get("method", "unknown"))))
    for name, value in facts:
        print(f"{name:22}{value}")
