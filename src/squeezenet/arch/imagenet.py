"""The class names of ImageNet, for weights that were published without names."""

from __future__ import annotations

from pathlib import Path


def imagenet_classes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (names, WordNet ids) of the 1,000 classes of ILSVRC 2012, in index order.

    Names are not unique: "crane" and "maillot" each name two classes. The ids are unique.
    """
    text = Path(__file__).parent.joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    pairs = [line.split(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return tuple(name for _, name in pairs), tuple(wordnet_id for wordnet_id, _ in pairs)
