"""What ``squeezenet compress`` does: a model and images to a measured ``.sqz`` file."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeezenet import __version__
from squeezenet.arch.plain import to_plain
from squeezenet.arch.record import ModelRecord
from squeezenet.codec.container import decode, encode
from squeezenet.codec.types import CompressedModel
from squeezenet.compress.deep_compression import DeepCompression, DeepCompressionSettings
from squeezenet.compress.images import CompressionImages
from squeezenet.compress.stage_table import StageRow, coded_row, layer_rows
from squeezenet.errors import QualityError
from squeezenet.files import write_bytes_atomically
from squeezenet.images.batches import EvalBatches
from squeezenet.images.evaluate import (
    Answers,
    Comparison,
    Evaluation,
    Network,
    answer,
    compare,
    score,
)
from squeezenet.model.loaded import LoadedModel
from squeezenet.reference.float_interpreter import FloatInterpreter
from squeezenet.train.fit import FitOptions
from squeezenet.train.hardware import keep_freed_memory
from squeezenet.train.recipe import Recipe
from squeezenet.train.run_folder import RunFolder

METHOD = "deep-compression"


@dataclass(frozen=True, kw_only=True)
class CompressionReport:
    """What is known of the file that was written; accuracies are those of the file itself."""

    file_bytes: int
    method: str
    original_bytes: int
    stages: tuple[StageRow, ...]
    layers: tuple[Any, ...]
    comparison: Comparison
    measured_images: int
    measured_labelled: bool
    max_drop: float | None

    @property
    def drop(self) -> float:
        """Points of top-1 lost; without labels, percent of answers that changed."""
        if self.measured_labelled:
            return -self.comparison.top1_difference
        return 100 - self.comparison.agreement

    def require_quality(self) -> None:
        """Refuse a file that loses more than was allowed.

        Raises:
            QualityError: says by how much and what may help; the file stays.
        """
        if self.max_drop is not None and self.drop > self.max_drop:
            what = (
                "points of top-1 lost" if self.measured_labelled else "percent of answers changed"
            )
            raise QualityError(
                f"the file is written, but {self.drop:.2f} {what} on "
                f"{self.measured_images} images, expected at most {self.max_drop:g}; keep more "
                "weights (--density), use more --bits, or retrain longer (--prune-epochs)"
            )


def compress_model(
    model: LoadedModel,
    images: CompressionImages,
    out: Path,
    settings: DeepCompressionSettings,
    base_recipe: Recipe,
    *,
    source_sha256: str,
    seed: int = 0,
    max_drop: float | None = None,
    options: FitOptions | None = None,
) -> CompressionReport:
    """Compress ``model`` by Deep Compression into ``out`` and measure the file.

    A folder ``OUT.work`` beside it holds what an interrupted call goes on from; it is removed at
    the end.

    Raises:
        InterruptedRunError: a signal came; the same call goes on.
    """
    options = options or FitOptions()
    keep_freed_memory()
    work = RunFolder(out.with_name(out.name + ".work"))
    work.open(
        {
            "architecture": model.record.spec.name,
            "source": source_sha256,
            "method": METHOD,
            "settings": settings,
            "recipe": base_recipe,
            "images": images.fingerprint,
            "seed": seed,
        }
    )
    batches = EvalBatches(
        images.measure, model.record.preprocessing, workers=options.workers, batch_size=128
    )

    def ask(network: Network) -> Answers:
        return answer(network, model.record, batches, progress=options.progress)

    def measure(network: Network) -> Evaluation | None:
        return score(ask(network)) if images.measure_labelled else None

    job = DeepCompression(
        model=model,
        images=images,
        settings=settings,
        base_recipe=base_recipe,
        measure=lambda stage: measure(stage.logits),
        work=work.path,
        seed=seed,
        options=options,
    )
    compressed, stages = job.run()

    # From here on the file speaks, run by the interpreter that clients are held to. It is written
    # with what it measured, which changes the record and no layer.
    record = _record(compressed, model, source_sha256, settings, seed)
    data = encode(dataclasses.replace(compressed, record=record))
    answers = ask(FloatInterpreter(decode(data, str(out))))
    measured = score(answers) if images.measure_labelled else None
    comparison = compare(answers, ask(model.logits))
    record.provenance["measured"] = {
        "images": len(images.measure),
        **({"top1": measured.top1, "top5": measured.top5} if measured else {}),
        "agreement": comparison.agreement,
        "kl": comparison.kl,
    }
    data = encode(dataclasses.replace(compressed, record=record))
    write_bytes_atomically(out, data)
    shutil.rmtree(work.path)
    rows = layer_rows(compressed.layers)
    return CompressionReport(
        file_bytes=len(data),
        method=METHOD,
        original_bytes=stages[0].bytes,
        stages=(*stages, coded_row(rows, len(data), measured)),
        layers=tuple(rows),
        comparison=comparison,
        measured_images=len(images.measure),
        measured_labelled=images.measure_labelled,
        max_drop=max_drop,
    )


def _record(
    compressed: CompressedModel,
    model: LoadedModel,
    source_sha256: str,
    settings: DeepCompressionSettings,
    seed: int,
) -> ModelRecord:
    """The record of the file: that of the folded network, and where it comes from."""
    provenance = {
        "method": METHOD,
        "made_by": f"squeezenet {__version__}",
        "settings": to_plain(settings),
        "source": model.record.provenance,
        "source_sha256": source_sha256,
        "seed": seed,
    }
    return dataclasses.replace(compressed.record, provenance=provenance)
