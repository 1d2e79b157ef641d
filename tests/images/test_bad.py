"""What is said of images that cannot be read, and how they are counted."""

from __future__ import annotations

import pytest

from squeezenet.errors import ImageError
from squeezenet.images.bad import BadImages, one_of_many


def test_images_are_reported_once() -> None:
    lines: list[str] = []
    bad = BadImages(report=lines.append)
    for message in ("a.jpg: broken", "b.jpg: broken", "a.jpg: broken"):
        bad.add(message)
    assert (bad.count, lines) == (2, ["skipped a.jpg: broken", "skipped b.jpg: broken"])


def test_files_of_many_images_are_one_line_and_each_image_counts() -> None:
    lines: list[str] = []
    bad = BadImages(report=lines.append)
    for reason in ("no such file", "no such file", "still none"):
        for image in ("0", "1", "2"):
            bad.add(one_of_many("x/0.tar", reason, image))
    bad.add(one_of_many("x/1.tar", "no such file", "0"))
    assert bad.count == 4
    assert lines == [
        "skipped images of x/0.tar: no such file", "skipped images of x/1.tar: no such file",
    ]  # fmt: skip
    other, more = BadImages(), len(lines)
    other.add(one_of_many("x/0.tar", "no such file", "2"))
    other.add(one_of_many("x/0.tar", "no such file", "3"))
    other.add("a.jpg: broken")
    bad.merge(other.found)
    bad.merge(bad.found)
    assert bad.count == 6 and lines[more:] == ["skipped a.jpg: broken"]
    with pytest.raises(ImageError, match="x/0.tar: no such file; its image 7 cannot be read"):
        BadImages(strict=True).add(one_of_many("x/0.tar", "no such file", "7"))
