"""``Classifier``: a ``.sqz`` file, ready to run on images of all kinds.

Legend: N images, H W C of the crop, K classes.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from squeezenet.arch.record import ModelRecord
from squeezenet.client.engine import LOGIT_UNIT, Engine, Prediction
from squeezenet.codec.container import decode_record
from squeezenet.errors import ImageError
from squeezenet.images.decode import Pixels
from squeezenet.images.inputs import ImageInput, over_images, rgb_pixels
from squeezenet.images.limits import DEFAULT_LIMITS, ImageLimits


class Classifier(Engine):
    """A ``.sqz`` model on the compiled runtime that names what is in pictures; no torch.

    ``Classifier()`` is the network for CIFAR-10 that comes with the package. Arguments, errors and
    the attributes ``classes``, ``class_ids``, ``num_classes`` and ``crop_shape`` are those of
    ``Engine``, which takes bytes alone and needs no NumPy.
    """

    @cached_property
    def record(self) -> ModelRecord:
        """The spec, the preprocessing, the provenance; read when first asked for.

        Raises:
            MalformedError: the file's record contradicts the rest.
        """
        return decode_record(self._data, self._where)

    @overload
    def __call__(
        self, image: ImageInput, top: int = 5, *, limits: ImageLimits = ...
    ) -> list[Prediction]: ...

    @overload
    def __call__(
        self, image: list[Any] | tuple[Any, ...], top: int = 5, *, limits: ImageLimits = ...
    ) -> list[list[Prediction]]: ...

    def __call__(
        self,
        image: ImageInput | list[Any] | tuple[Any, ...],
        top: int = 5,
        *,
        limits: ImageLimits = DEFAULT_LIMITS,
    ) -> list[Prediction] | list[list[Prediction]]:
        """Return the ``top`` most probable classes of an image, best first; of a list, a list each.

        ``image``: a path, the bytes of an image file, a file object, a Pillow image, or pixels,
        uint8 (H, W, 3) in RGB or (H, W) in grey. However an image comes in, its predictions are
        the same. ``limits``: the largest image that is read, for files of strangers.

        Raises:
            ImageError: an image cannot be read, or is nothing of the kind.
            UsageError: ``top`` is below 1.
        """

        def predict(pixels_HWC: Pixels) -> list[Prediction]:
            height, width, _ = pixels_HWC.shape
            return self.predict_bytes(pixels_HWC, height, width, top)

        predictions = over_images(image, predict, limits)
        return predictions

    def crop(self, pixels_HWC: Pixels) -> Pixels:
        """Resize and crop RGB pixels as the model's record says: uint8 of ``crop_shape``.

        Raises:
            ImageError: the pixels have another shape or type.
        """
        pixels_HWC = rgb_pixels(pixels_HWC)
        out = np.empty(self.crop_shape, np.uint8)
        height, width, _ = pixels_HWC.shape
        self.crop_bytes(pixels_HWC, height, width, out)
        return out

    def logits(self, pixels_NHWC: Pixels) -> npt.NDArray[np.float32]:
        """Run cropped pixels, uint8 (N, *crop_shape): logits (N, K)."""
        return (self.integer_logits(pixels_NHWC) * LOGIT_UNIT).astype(np.float32)

    def integer_logits(self, pixels_NHWC: Pixels) -> npt.NDArray[np.int32]:
        """Run cropped pixels, uint8 (N, *crop_shape): int32 logits (N, K) in 1/65536.

        Raises:
            ImageError: the pixels have another shape or type.
        """
        pixels_NHWC = np.ascontiguousarray(pixels_NHWC)
        if pixels_NHWC.dtype != np.uint8 or pixels_NHWC.shape[1:] != self.crop_shape:
            raise ImageError(
                f"pixels are {pixels_NHWC.dtype} {pixels_NHWC.shape}, expected uint8 "
                f"(N, {', '.join(map(str, self.crop_shape))})"
            )
        out = np.empty((len(pixels_NHWC), self.num_classes), np.int32)
        if len(out):
            self.run_bytes(pixels_NHWC, out)
        return out
