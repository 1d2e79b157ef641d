"""A model, data and a recipe -> a finished run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from pathlib import Path
from typing import Any

from torch import nn

from squeezenet.arch.graph import build_graph
from squeezenet.arch.record import ModelRecord
from squeezenet.arch.serialization import to_plain
from squeezenet.arch.spec import NetworkSpec, SqueezeNetSpec
from squeezenet.data.fingerprint import Fingerprint
from squeezenet.data.sources import VAL_FRACTION, TrainingData
from squeezenet.errors import DistributedError, SpecError, SqueezeNetError
from squeezenet.evaluation.metrics import Evaluation
from squeezenet.images.preprocess import from_pixels
from squeezenet.model.loaded import LoadedModel
from squeezenet.model.safetensors_file import load_safetensors, save_safetensors
from squeezenet.progress import Progress, SilentProgress
from squeezenet.train.checkpoint import checkpoint_paths, remove_old_checkpoints
from squeezenet.train.distributed.evaluation import batches_of_rank, evaluate_on_ranks
from squeezenet.train.distributed.ranks import Ranks
from squeezenet.train.fit import AfterEpoch, Fit, FitOptions, FitResult, Validate
from squeezenet.train.head import fit_head
from squeezenet.train.losses import TEMPERATURE, cross_entropy, teacher_loss
from squeezenet.train.recipe import Recipe
from squeezenet.train.run_folder import RunFolder

_VAL_BATCH_SIZE = 128


def train_run(
    model: LoadedModel,
    data: TrainingData,
    recipe: Recipe,
    folder: Path,
    *,
    seed: int = 0,
    val_fraction: float = VAL_FRACTION,
    new_head: bool = False,
    teacher: LoadedModel | None = None,
    after_epoch: AfterEpoch | None = None,
    options: FitOptions | None = None,
) -> dict[str, Any]:
    """Train ``model`` on ``data`` into ``folder``; return the contents of ``result.json``.

    ``val_fraction`` is the fraction that ``data`` was split by; the record keeps it. ``new_head``:
    fit the last layer by logistic regression first, see ``head``. ``teacher``: its predictions are
    learned beside the labels; it has the same input and classes. ``after_epoch`` may end the
    training, see ``Fit``; the run is then finished.

    An unfinished run in the folder is resumed. A finished run is returned as it is. Either may be
    given another length (``recipe.epochs``, ``recipe.max_steps``) of at least the steps done. It
    then continues at its newest checkpoint, with the learning rate that a run of the new length
    has at that step: after a finished run, the rate rises again and then decays to 0.

    Every rank calls this with the same arguments. Rank 0 alone reads and writes the folder, so the
    others need not see it; the images all must.

    Raises:
        DistributedError: ranks have different arguments or images, or one has met an error.
        CheckpointError: the folder holds a run with other settings or on other images, another
            process works in it, or it cannot be written.
        InterruptedRunError, DataError, ImageError: see ``Fit.run``.
    """
    options = options or FitOptions()
    ranks = options.ranks
    assert data.class_names in (model.record.class_names, model.record.class_ids)
    recipe = _without_impossible_resizing(recipe, model.record.spec)
    run = RunFolder(folder)
    images = data.fingerprint(run.known_data())
    settings = _settings(model.record, images, recipe, seed, teacher)
    ranks.require_equal(
        {key: value for key, value in settings.items() if key != "data"}
        | {"gradients": options.gradients, "new_head": new_head}
    )
    require_same_images(images.summary, ranks)
    total_steps = recipe.total_steps(len(data.train))
    progress = options.progress or SilentProgress()
    # First without a lock: a run that is refused or finished is left as it is.
    finished = ranks.on_main(lambda: _finished_before(run, settings, images, total_steps, progress))
    if finished is not None:
        return finished
    with contextlib.ExitStack() as lock:
        # Another process may have finished it by now.
        finished = ranks.on_main(lambda: _open(run, lock, settings, images, total_steps, progress))
        return finished or _train(
            model, data, recipe, run, seed, val_fraction, new_head, teacher, after_epoch, options
        )


def require_same_images(summary: dict[str, str], ranks: Ranks) -> None:
    """Refuse to go on with ranks that have different images, by the fingerprints' summaries.

    Raises:
        DistributedError: names the first rank whose images differ from rank 0's.
    """
    main = ranks.broadcast(summary)

    def check() -> None:
        if summary != main:
            part = "names or labels" if summary["names"] != main["names"] else "contents"
            raise DistributedError(
                f"the {part} of the images here are not those of rank 0; give all ranks the same "
                "data",
                exit_code=2,
            )

    ranks.together(check)


def _finished_before(
    run: RunFolder,
    settings: dict[str, Any],
    images: Fingerprint,
    total_steps: int,
    progress: Progress,
) -> dict[str, Any] | None:
    """Return the result if this very run is finished and whole; nothing is written."""
    if not run.check(settings, images, total_steps=total_steps):
        return None
    finished = _finished(run, SilentProgress())
    if finished is not None:
        progress.log(f"{run.path}: this run is finished; a larger --epochs trains it longer")
    return finished


def _open(
    run: RunFolder,
    lock: contextlib.ExitStack,
    settings: dict[str, Any],
    images: Fingerprint,
    total_steps: int,
    progress: Progress,
) -> dict[str, Any] | None:
    """Lock and open the folder, until ``lock`` is closed; return the result if it has one."""
    lock.enter_context(run.lock())
    if run.change_length(settings, total_steps):
        progress.log(
            f"{run.path}: the run goes on to {total_steps} steps, with the learning rates of a "
            "run of that length"
        )
    run.open(settings, images)
    return _finished(run, progress)


def _train(
    model: LoadedModel,
    data: TrainingData,
    recipe: Recipe,
    run: RunFolder,
    seed: int,
    val_fraction: float,
    new_head: bool,
    teacher: LoadedModel | None,
    after_epoch: AfterEpoch | None,
    options: FitOptions,
) -> dict[str, Any]:
    """Train into the folder, which is open and locked, and mark it as finished."""
    ranks = options.ranks
    if new_head and ranks.on_main(lambda: not checkpoint_paths(run.checkpoints)):
        fit_head(model, data.train, balance=recipe.balance, options=options)
    # What compression and fine-tuning need to treat the images in the same way.
    provenance = model.record.provenance | {
        "recipe": recipe.name,
        "augmentation": to_plain(recipe.augmentation),
        "val_fraction": val_fraction,
        **_teacher_settings(teacher),
    }
    record = dataclasses.replace(model.record, provenance=provenance)
    fitted = Fit(
        module=model.module,
        recipe=recipe,
        preprocessing=model.record.preprocessing,
        images=data.train,
        loss=(
            cross_entropy(recipe, data.train)
            if teacher is None
            else teacher_loss(teacher, recipe, TEMPERATURE, labelled=data.train)
        ),
        validate=validator(model.record, data, options),
        save_weights=lambda path, module: save_safetensors(path, record, module.state_dict()),
        are_whole=_are_whole,
        after_epoch=after_epoch,
        folder=run,
        seed=seed,
        options=options,
    ).run()
    result = {
        "arch": model.record.spec.name,
        "recipe": recipe.name,
        "seed": seed,
        **to_plain(fitted),
        "train_images": len(data.train),
        "val_images": len(data.val),
        "classes": len(data.class_names),
    }
    ranks.on_main(lambda: _finish(run, result, keep_all=options.keep_checkpoints))
    return result


def _finish(run: RunFolder, result: dict[str, Any], *, keep_all: bool) -> None:
    run.write_result(result)
    if not keep_all:
        remove_old_checkpoints(run.checkpoints)


def _settings(
    record: ModelRecord,
    images: Fingerprint,
    recipe: Recipe,
    seed: int,
    teacher: LoadedModel | None,
) -> dict[str, Any]:
    """What a run must have in common with the one that it resumes."""
    return {
        "architecture": record.spec.name,
        "spec": record.spec,
        "preprocessing": record.preprocessing,
        "start": record.provenance,
        "recipe": recipe,
        "data": images.summary,
        "seed": seed,
        **_teacher_settings(teacher),
    }


def _teacher_settings(teacher: LoadedModel | None) -> dict[str, Any]:
    """Say which model the teacher is; nothing without one, as runs of earlier versions have it."""
    if teacher is None:
        return {}
    source = teacher.source
    sha256 = None if source is None else source.sha256
    return {"teacher": {"architecture": teacher.record.spec.name, "sha256": sha256}}


def _finished(run: RunFolder, progress: Progress) -> dict[str, Any] | None:
    """Return the result of a finished run; None if a file is damaged, which ``progress`` is told.

    Such a run is then finished again.
    """
    if not run.result.exists():
        return None
    result = run.read_result()
    damaged = run.result if result is None or not _is_result(result) else None
    for weights in (run.best, run.last):
        if damaged is None and not _are_whole(weights):
            damaged = weights
    if damaged is None:
        return result
    progress.log(
        f"{damaged}: is damaged or missing; the run is finished again from its newest checkpoint"
    )
    return None


def _is_result(result: dict[str, Any]) -> bool:
    """Whether these are the contents of ``result.json``: names and types of all values."""
    kinds = {field.name: field.type for field in dataclasses.fields(FitResult)}
    kinds |= {"arch": "str", "recipe": "str", "seed": "int"}
    kinds |= dict.fromkeys(("train_images", "val_images", "classes"), "int")
    types: dict[object, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
    result = {"ranks": 1} | result  # runs of earlier versions had one
    return result.keys() == kinds.keys() and all(
        isinstance(result[name], types[kind]) for name, kind in kinds.items()
    )


def _are_whole(weights: Path) -> bool:
    """Whether the file of weights is there and can be read."""
    try:
        load_safetensors(weights)
    except SqueezeNetError:
        return False
    return True


def _without_impossible_resizing(recipe: Recipe, spec: NetworkSpec) -> Recipe:
    """Return the recipe without progressive resizing, if the network needs its full input size."""
    if recipe.coarse_share and isinstance(spec, SqueezeNetSpec):
        height, width = (math.ceil(side * recipe.coarse_scale) for side in spec.input_size)
        try:
            build_graph(dataclasses.replace(spec, input_size=(height, width)))
        except SpecError:
            return dataclasses.replace(recipe, coarse_share=0.0)
        return recipe
    return dataclasses.replace(recipe, coarse_share=0.0)


def validator(record: ModelRecord, data: TrainingData, options: FitOptions) -> Validate:
    """Return a function that evaluates a module on the validation set, as a client would."""
    batches = batches_of_rank(
        data.val,
        record.preprocessing,
        workers=options.workers,
        batch_size=_VAL_BATCH_SIZE,
        bad=options.bad,
        ranks=options.ranks,
    )

    def validate(module: nn.Module) -> Evaluation:
        model = LoadedModel(record=record, module=module)
        network = from_pixels(model.logits, record.preprocessing)
        return evaluate_on_ranks(network, record, batches, options.ranks)

    return validate
