"""``Classifier``: a ``.sqz`` file, ready to answer.

Legend: N images, H W C of the crop, K classes.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from squeezenet.arch.record import ModelRecord
from squeezenet.client.engine import LOGIT_UNIT, Engine, Prediction
from squeezenet.codec.container import decode_record
from squeezenet.errors import ImageError
from squeezenet.images.decode import Pixels, read_image


class Classifier(Engine):
    """A model that is ready to run, on pictures and arrays; arguments and errors: ``Engine``."""

    @cached_property
    def record(self) -> ModelRecord:
        """The spec, the preprocessing, the provenance; read when first asked for.

        Raises:
            MalformedError: the file's record contradicts the rest.
        """
        return decode_record(self._data, self._where)

    def __call__(self, image: Any, top: int = 5) -> list[Prediction]:
        """Return the ``top`` best classes of a picture, the best first.

        ``image``: a file's name, a Pillow image, or RGB pixels, uint8 (rows, columns, 3).

        Raises:
            ImageError: it cannot be read, or is no such array.
        """
        pixels_HWC = _pixels(image)
        height, width, _ = pixels_HWC.shape
        return self.predict_bytes(pixels_HWC, height, width, top)

    def crop(self, pixels_HWC: Pixels) -> Pixels:
        """Resize and crop RGB pixels as the model's record says: uint8 of ``crop_shape``."""
        pixels_HWC = _require_picture(pixels_HWC)
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


def _pixels(image: Any) -> Pixels:
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if hasattr(image, "convert"):  # a Pillow image
        image = image.convert("RGB")
    return _require_picture(np.asarray(image))


def _require_picture(pixels: npt.NDArray[Any]) -> Pixels:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ImageError(
            f"a picture is {pixels.dtype} {pixels.shape}, expected uint8 (rows, columns, 3)"
        )
    return np.ascontiguousarray(pixels)
