"""Run the golden files through an installed squeezenet: for wheels, without the tests.

    python spec/tools/golden.py

Every set of kernels, by one thread and by three, must give the ``integer_logits`` exactly.
"""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path

import numpy as np

from squeezenet.client import Classifier, available_kernels

ACCEPT = Path(__file__).parents[1] / "vectors" / "accept"


def main() -> None:
    compared = 0
    for path in sorted(ACCEPT.glob("*.json")):
        expected = json.loads(path.read_text()).get("integer_logits")
        if expected is None:
            continue
        for kernels, threads in product(available_kernels(), (1, 3)):
            client = Classifier(path.with_suffix(".sqz"), kernels=kernels, threads=threads)
            height, width, channels = client.crop_shape
            y, x, c = np.ogrid[:height, :width, :channels]
            pixels_HWC = (37 * c + 101 * y + 59 * x + 17 * x * y + 11) % 256  # as its README says
            found = client.integer_logits(pixels_HWC[None].astype(np.uint8))[0].tolist()
            if found != expected:
                sys.exit(f"{path.stem} by {kernels}, {threads} threads: {found}, not {expected}")
            compared += len(found)
    if not compared:
        sys.exit(f"no golden files in {ACCEPT}")
    print(f"golden files: {compared} logits equal, by {', '.join(available_kernels())}")


if __name__ == "__main__":
    main()
