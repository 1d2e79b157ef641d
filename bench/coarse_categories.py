"""ImageNet's 1,000 classes grouped into everyday categories, as folders to fine-tune on.

The groups were chosen by hand. ILSVRC 2012 orders its classes by WordNet's tree, so most groups
are ranges of class indices. Classes that fit no group are left out.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from squeezenet.arch.imagenet import imagenet_classes


def _run(*pieces: int | tuple[int, int]) -> tuple[int, ...]:
    indices: list[int] = []
    for piece in pieces:
        indices += [piece] if isinstance(piece, int) else range(piece[0], piece[1] + 1)
    return tuple(indices)


CATEGORIES = {
    "amphibian": _run((25, 32)),
    "bird": _run((7, 24), (80, 100), (127, 146)),
    "boat": _run(
        403, 472, 484, 510, 554, 576, 625, 628, 694, 724, 780, 814, 833, 871, 914
    ),
    "bottle": _run(440, 441, 572, 737, 898, 899, 901, 907),
    "building": _run(
        410, 425, 437, 442, 449, 483, 497, 498, 538, 580, 663, 668, 698, 727, 743, 762, 832, 853,
        873, 900
    ),
    "cat": _run((281, 293)),
    "clothing": _run(
        399, 400, 411, 445, 451, 457, 459, 474, 501, 568, 578, 601, 608, 610, 614, 617, 638, 655,
        689, 697, 735, 775, 834, 841, 842, 869, 887, 906
    ),
    "crustacean": _run((118, 126)),
    "dish": _run((924, 935), (959, 969)),
    "dog": _run((151, 268)),
    "fish": _run((0, 6), (389, 397)),
    "fruit": _run((936, 946), (948, 957)),
    "furniture": _run(
        423, 453, 493, 495, 516, 520, 526, 532, 548, 559, 564, 703, 736, 765, 831, 846, 857, 894
    ),
    "fungus": _run(947, (991, 997)),
    "hoofed": _run((339, 355)),
    "insect": _run((300, 326)),
    "instrument": _run(
        401, 402, 420, 432, 486, 494, 513, 541, 546, 558, 566, 577, 579, 593, 594, 641, 642, 683,
        684, 687, 699, 776, 822, 875, 881, 889
    ),
    "landscape": _run((970, 980)),
    "monkey": _run((365, 384)),
    "reptile": _run((33, 50), (52, 68)),
    "spider": _run((70, 78)),
    "vehicle": _run(
        407, 436, 468, 511, 555, 561, 569, 573, 575, 586, 603, 609, 612, 627, 654, 656, 661, 665,
        670, 671, 675, 705, 717, 734, 751, 757, 779, 802, 803, 817, 820, 829, 847, 864, 866, 867,
        870, 874
    ),
}  # fmt: skip

TASKS = {
    "2": ("bird", "insect"),
    "8": ("bird", "dog", "dish", "fruit", "insect", "instrument", "reptile", "vehicle"),
    "20": tuple(name for name in CATEGORIES if name not in ("fungus", "bottle")),
}
"""The category names of each task, by the number of classes."""


def write_categories(source: Path, target: Path, names: Sequence[str]) -> int:
    """Copy ``source/<WordNet id>/*`` to ``target/<category>/``; return the number of pictures.

    A category without pictures in ``source`` gets no folder.
    """
    _, ids = imagenet_classes()
    count = 0
    for name in names:
        folder = target / name
        for index in CATEGORIES[name]:
            for path in sorted((source / ids[index]).glob("*.*")):
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / f"{ids[index]}-{path.name}")
                count += 1
    return count
