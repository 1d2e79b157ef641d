"""``squeezenet demo``: the whole of it on the embedded digits, in about a minute."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from squeezenet.api.open_model import open_model
from squeezenet.api.options import require_seed
from squeezenet.cli.compress import show_report
from squeezenet.cli.options import (
    DIGITS,
    JsonOption,
    SeedOption,
    open_eval_images,
)
from squeezenet.cli.output import make_progress, plain, print_json
from squeezenet.cli.predict import predict
from squeezenet.errors import QualityError
from squeezenet.evaluation.predict import evaluate
from squeezenet.extras import require_extra
from squeezenet.images.batches import EvalBatches
from squeezenet.images.preprocess import from_pixels

REQUIRED_TOP1 = 97.0
REQUIRED_BYTES = 60_000


def demo(
    *,
    out: Annotated[Path, Parameter(help="Folder for what the demo makes.")] = Path("demo"),
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Train squeezenet_tiny on digits, compress it, evaluate the file, predict with it."""
    require_extra("train", "the demo")
    require_seed(seed)
    from PIL import Image

    from squeezenet.compress.deep_compression.settings import DeepCompressionSettings
    from squeezenet.compress.images import open_compression_images
    from squeezenet.compress.run import compress_model
    from squeezenet.data.digits import load_digits
    from squeezenet.data.sources import open_training_data
    from squeezenet.model.load import load_model
    from squeezenet.train.fit import FitOptions
    from squeezenet.train.hardware import choose_hardware
    from squeezenet.train.recipe import recipe_named
    from squeezenet.train.run import NetworkChoice, new_model, train_run

    started = time.monotonic()
    progress = make_progress()
    options = FitOptions(hardware=choose_hardware("cpu"), progress=progress)
    recipe = recipe_named(DIGITS)
    run, file = out / "run", out / "digits.sqz"

    progress.log("1/4 train squeezenet_tiny on 1,167 digits of 8x8 pixels")
    data = open_training_data(DIGITS)
    model = new_model(NetworkChoice(arch="squeezenet_tiny"), recipe, data.class_names, seed)
    train_run(model, data, recipe, run, seed=seed, options=options)
    trained = load_model(run)
    test = open_eval_images(DIGITS, trained.record, None)
    batches = EvalBatches(test, trained.record.preprocessing, workers=0)
    network = from_pixels(trained.logits, trained.record.preprocessing)
    before = evaluate(network, trained.record, batches)

    progress.log("2/4 compress: prune, share, code")
    report = compress_model(
        trained,
        open_compression_images(trained.record, data=DIGITS, calib=None, val=None, seed=seed),
        file,
        DeepCompressionSettings(),
        recipe,
        seed=seed,
        options=options,
    )

    progress.log("3/4 evaluate the file, without torch")
    opened = open_model(file)
    after = evaluate(opened.network, opened.record, batches)
    result = {
        "top1_before": before.top1,
        "top1_after": after.top1,
        "images": after.images,
        "weight_bytes": report.original_bytes,
        "file_bytes": opened.file_bytes,
        "seconds": round(time.monotonic() - started, 1),
    }
    if json:
        print_json(plain(result | {"out": str(out)}))
    else:
        show_report(report, file, as_json=False)
        print(
            f"test, {after.images} digits never seen: top-1 {before.top1:.1f}% before, "
            f"{after.top1:.1f}% after; {opened.file_bytes:,} bytes\n"
        )
        progress.log("4/4 predict")
        digits = load_digits()["test"]
        paths = []
        for i in range(3):
            paths.append(str(out / f"digit{i}_is_{digits.labels[i]}.png"))
            Image.fromarray(digits.pixels(i)).save(paths[-1])
        predict(str(file), *paths)
        print(f"\nall of it is in {out}/, made in {result['seconds']:.0f} s")
    if min(before.top1, after.top1) < REQUIRED_TOP1 or opened.file_bytes >= REQUIRED_BYTES:
        raise QualityError(
            f"demo: top-1 {before.top1:.1f}% and {after.top1:.1f}%, {opened.file_bytes} bytes; "
            f"expected at least {REQUIRED_TOP1}% and under {REQUIRED_BYTES} bytes"
        )
