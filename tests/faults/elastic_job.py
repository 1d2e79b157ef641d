"""A tiny training that ``elastic`` kills: every image is a class of its own, and is logged.

    torchrun ... -m tests.faults.elastic_job FOLDER

``FOLDER/log-ATTEMPT-RANK`` gets a line per step: the step, and the labels of this rank's images.
ATTEMPT counts the launches and the restarts of each.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import squeezenet.train.fit as fit
from squeezenet.data.loader import TrainBatch, iter_train_batches
from squeezenet.data.sources import TrainingData
from squeezenet.launch import this_launch
from squeezenet.train.distributed.group import joined_ranks
from squeezenet.train.fit import FitOptions
from squeezenet.train.run import train_run
from squeezenet.train.start import NetworkChoice, new_model
from tests.train.small import CPU, bright_images, quick

NUM_IMAGES, EPOCHS = 43, 90
RECIPE = quick(
    epochs=EPOCHS, batch_size=10, micro_batch=4, ema_decay=0.9, batch_norm=False, balance=False
)


def attempt() -> str:
    """The launch, and torchrun's restarts since, in an order that sorts as text."""
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return f"{int(os.environ.get('LAUNCH', '0')):04d}-{int(restart):04d}"


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    log = folder / f"log-{attempt()}-{this_launch().rank}"

    def logged(*arguments: Any, **options: Any) -> Iterator[TrainBatch]:
        with log.open("a", buffering=1) as file:
            for batch in iter_train_batches(*arguments, **options):
                file.write(f"{batch.step} {' '.join(map(str, batch.labels.tolist()))}\n")
                yield batch

    fit.iter_train_batches = logged
    images = bright_images(NUM_IMAGES, NUM_IMAGES)
    data = TrainingData(train=images, val=images)
    choice = NetworkChoice(arch="squeezenet_tiny", batch_norm=False)
    model = new_model(choice, RECIPE, data.class_names, 0)
    for layer in model.module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0  # every rank draws its own
    with joined_ranks(torch.device("cpu"), 60) as ranks:
        options = FitOptions(hardware=CPU, ranks=ranks, checkpoint_seconds=0.1)
        train_run(model, data, RECIPE, folder / "run", options=options)


if __name__ == "__main__":
    main()
