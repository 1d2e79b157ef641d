"""Which images each step of a training gets: epochs one after another, no image left out.

The epochs, each a new order of all images, are one long sequence, and a step takes the next images
of it. So where the batch size does not divide the number of images, a step takes the last images of
one epoch and the first of the next. The images of a step do not depend on how many processes share
it: each takes its part.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Epochs:
    """Divides the epochs of a set of images into steps.

    ``images_per_step`` is the batch size, or the number of images if that is smaller.
    """

    num_images: int
    batch_size: int

    @property
    def images_per_step(self) -> int:
        return min(self.batch_size, self.num_images)

    @property
    def steps_per_epoch(self) -> float:
        """At least 1."""
        return self.num_images / self.images_per_step

    def num_steps(self, epochs: int) -> int:
        """Return the steps after which every image was seen ``epochs`` times."""
        return -(-epochs * self.num_images // self.images_per_step)

    def num_done(self, step: int) -> float:
        """Return the number of epochs in the first ``step`` steps."""
        return step * self.images_per_step / self.num_images

    def number(self, step: int) -> int:
        """Return which epoch, from 1, the last of ``step`` steps has ended, or else is in."""
        num_images = step * self.images_per_step
        return num_images // self.num_images + (not self.ends_with(step))

    def ends_with(self, step: int) -> bool:
        """Whether the last of ``step`` steps has the last image of an epoch."""
        before = (step - 1) * self.images_per_step // self.num_images
        return step * self.images_per_step // self.num_images > before

    def places(self, step: int, rank: int = 0, num_ranks: int = 1) -> list[tuple[int, int]]:
        """Return (epoch, place in the order of that epoch) of the images of step ``step``.

        Of ``num_ranks`` processes each gets a part; the parts differ by one image at most.
        """
        size = self.images_per_step
        first = step * size
        part = range(first + size * rank // num_ranks, first + size * (rank + 1) // num_ranks)
        return [divmod(position, self.num_images) for position in part]
