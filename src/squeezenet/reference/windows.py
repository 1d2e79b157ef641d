"""Kernel windows, for the float and the integer interpreter.

Legend: C channels, I input channels of a group, H W height and width of one image.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from squeezenet.arch.graph import Conv, Tensor

_Scalar = TypeVar("_Scalar", bound=np.generic)


def columns(x_IHW: npt.NDArray[_Scalar], op: Conv) -> npt.NDArray[_Scalar]:
    """Gather every kernel window of a padded input as a column: (I * kernel size, positions)."""
    windows = np.lib.stride_tricks.sliding_window_view(x_IHW, op.kernel, axis=(1, 2))
    windows = windows[:, :: op.stride, :: op.stride]
    num_rows = len(x_IHW) * op.kernel[0] * op.kernel[1]
    return windows.transpose(0, 3, 4, 1, 2).reshape(num_rows, -1)


def max_pool(
    x_CHW: npt.NDArray[_Scalar], kernel: int, stride: int, target: Tensor, lowest: Any
) -> npt.NDArray[_Scalar]:
    """Max pool; windows that overhang the lower or right edge are clipped.

    ``lowest`` must not exceed any value of ``x_CHW``.
    """
    out = np.full((target.channels, target.height, target.width), lowest, x_CHW.dtype)
    for dy in range(kernel):
        for dx in range(kernel):
            part = x_CHW[:, dy::stride, dx::stride][:, : target.height, : target.width]
            view = out[:, : part.shape[1], : part.shape[2]]
            np.maximum(view, part, out=view)
    return out
