"""The rows of table 2, in the paper's order, and ours after them."""

from __future__ import annotations

from squeezenet.report.compression_table.results import Approach
from squeezenet.report.study.results import PaperFigure

ALEXNET, SQUEEZENET = "alexnet", "squeezenet"
"""Names of the rows of the two networks as they were trained."""
ALEXNET_SVD, ALEXNET_PRUNED, ALEXNET_DEEP = "alexnet-svd", "alexnet-pruned", "alexnet-dc"
SQUEEZENET_8, SQUEEZENET_6, SQUEEZENET_RD = "squeezenet-dc8", "squeezenet-dc6", "squeezenet-rd"


APPROACHES = (
    Approach(
        name=ALEXNET,
        network="AlexNet",
        approach="none",
        data_type="32 bit",
        paper=PaperFigure(top1=57.2, top5=80.3, megabytes=240),
    ),
    Approach(
        name=ALEXNET_SVD,
        network="AlexNet",
        approach="SVD",
        data_type="32 bit",
        base=ALEXNET,
        paper=PaperFigure(top1=56.0, top5=79.4, megabytes=48),
    ),
    Approach(
        name=ALEXNET_PRUNED,
        network="AlexNet",
        approach="network pruning",
        data_type="32 bit",
        base=ALEXNET,
        paper=PaperFigure(top1=57.2, top5=80.3, megabytes=27),
    ),
    Approach(
        name=ALEXNET_DEEP,
        network="AlexNet",
        approach="Deep Compression",
        data_type="5-8 bit",
        base=ALEXNET,
        paper=PaperFigure(top1=57.2, top5=80.3, megabytes=6.9),
    ),
    Approach(
        name=SQUEEZENET,
        network="SqueezeNet",
        approach="none",
        data_type="32 bit",
        paper=PaperFigure(top1=57.5, top5=80.3, megabytes=4.8),
    ),
    Approach(
        name=SQUEEZENET_8,
        network="SqueezeNet",
        approach="Deep Compression",
        data_type="8 bit",
        base=SQUEEZENET,
        paper=PaperFigure(top1=57.5, top5=80.3, megabytes=0.66),
    ),
    Approach(
        name=SQUEEZENET_6,
        network="SqueezeNet",
        approach="Deep Compression",
        data_type="6 bit",
        base=SQUEEZENET,
        paper=PaperFigure(top1=57.5, top5=80.3, megabytes=0.47),
    ),
    Approach(
        name=SQUEEZENET_RD,
        network="SqueezeNet",
        approach="rd (ours)",
        data_type="integer levels",
        base=SQUEEZENET,
    ),
)
"""Table 2 of arXiv 1602.07360, and method ``rd``."""
