"""Labels of points cover neither each other nor points."""

from __future__ import annotations

import itertools

from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from squeezenet.report.point_labels import label_points


def test_labels_of_near_points_do_not_overlap() -> None:
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.subplots()
    points = [(0.06, 74.5), (0.21, 75.8), (0.26, 75.9), (2.7, 76.5), (140.0, 67.2)]
    labels = [f"a long label of point {i}" for i in range(len(points))]
    axes.plot(*zip(*points, strict=True), "o")
    axes.set_xscale("log")
    label_points(axes, points, labels, ["black"] * len(points))
    figure.draw_without_rendering()
    assert [text.get_text() for text in axes.texts] == labels
    boxes = [text.get_window_extent() for text in axes.texts]
    for one, other in itertools.combinations(boxes, 2):
        shared = Bbox.intersection(one, other)
        assert shared is None or shared.width * shared.height == 0
    for box in boxes:
        assert not any(box.contains(*xy) for xy in axes.transData.transform(points))
        assert axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1


def test_where_there_is_no_room_every_point_has_its_label() -> None:
    figure = Figure(figsize=(1, 1))
    axes = figure.subplots()
    label_points(axes, [(0.5, 0.5)] * 9, ["the same place"] * 9, ["black"] * 9)
    assert len(axes.texts) == 9
