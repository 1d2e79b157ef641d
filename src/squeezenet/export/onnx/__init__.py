"""``export --to onnx``: the network as ONNX graphs, opset 13, IR version 7.

In:  the bytes of a ``.sqz``.
Out: ``float32.onnx``; ``int8.onnx`` and ``exact.onnx`` where the file is for integer clients;
     ``README.md``.

The modules below import the package ``onnx``; this one does not, so that the table of targets can.
"""

from __future__ import annotations

FLOAT_FILE, INT8_FILE, EXACT_FILE = "float32.onnx", "int8.onnx", "exact.onnx"
ABOUT_FILE = "README.md"
ONNX_FILES = (FLOAT_FILE, INT8_FILE, EXACT_FILE, ABOUT_FILE)
"""The files of the folder; ``int8.onnx`` and ``exact.onnx`` may be missing."""
