"""Array types of method ``rd``, and the suffixes of their names.

Legend, for all modules of this folder: O output channels, Q output channels of a group, I input
channels of a group, K kernel positions, P = I x K, G groups, N images.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

BoolArray: TypeAlias = npt.NDArray[np.bool_]
Float64Array: TypeAlias = npt.NDArray[np.float64]
Levels: TypeAlias = npt.NDArray[np.int64]
"""Integer levels or codes of weights."""
