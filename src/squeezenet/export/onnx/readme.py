"""The page in the folder of ``export --to onnx``: inputs, outputs, how to run the graphs."""

from __future__ import annotations

from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.arch.record import ModelRecord
from squeezenet.export.onnx import FLOAT_FILE, INT8_FILE
from squeezenet.export.onnx.builder import INPUT, LOGITS
from squeezenet.export.onnx.preprocessing import IMAGE


def about_sums(layers: tuple[str, ...]) -> str:
    """Say where ONNX Runtime's int8 sums are not exact; ``layers`` as of ``saturating_layers``."""
    if not layers:
        return (
            "Int8. Exact on every processor: no sum of two products of this network overflows the "
            "16 bits that AVX2 without VNNI has for them."
        )
    few = ", ".join(layers[:4]) + (", ..." if len(layers) > 4 else "")
    return (
        "Int8. On x86 processors with AVX2 and without VNNI, ONNX Runtime adds two products in 16 "
        f"bits, which may saturate in {len(layers)} of the layers here ({few}). Use "
        f"{FLOAT_FILE} there, or compare the accuracy first."
    )


def about_folder(record: ModelRecord, name: str, sums: str | None, *, preprocessing: bool) -> str:
    """Return the page, Markdown. ``sums`` is ``about_sums``, or None without an int8 graph."""
    classes = len(record.class_names)
    height, width = record.preprocessing.crop
    channels = record.preprocessing.num_channels
    source = (
        f"`{IMAGE}`: uint8 (N, H, W, 3), RGB pictures of one size, which may be any. Resize, crop "
        "and normalisation are in the graph and equal squeezenet's own, bit for bit, in an engine "
        "that computes them in float32."
        if preprocessing
        else f"`{INPUT}`: float32 (N, {channels}, {height}, {width}). "
        f"{_steps(record.preprocessing)}"
    )
    int8 = (
        f"- `{INT8_FILE}`: {sums} Weights, scales, zero points and biases are the file's own."
        if sums is not None
        else f"- There is no `{INT8_FILE}`: the .sqz is for float32 alone."
    )
    return f"""# {_plain(name)} as ONNX

Written by `squeezenet export --to onnx`. Opset 13.

- `{FLOAT_FILE}`: float32.
{int8}

Input {source} N, the number of pictures, may be any.

Output `{LOGITS}`: float32 (N, {classes}). The probabilities of the classes are their softmax.

The metadata have `class_names` and `class_ids` (JSON lists), and `preprocessing` (JSON; means and
standard deviations are in pixel levels, 0 to 255).

```python
import json
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("{INT8_FILE if sums is not None else FLOAT_FILE}")
metadata = session.get_modelmeta().custom_metadata_map
names = json.loads(metadata["class_names"])
{_EXAMPLES[preprocessing]}
for k in np.argsort(-logits)[:5]:
    print(names[k], logits[k])
```

`squeezenet convert {FLOAT_FILE} OUT.safetensors` reads the weights back, bit for bit.
"""


def _steps(prep: Preprocessing) -> str:
    channels = {"RGB": "RGB", "BGR": "BGR", "L": "grey"}[prep.channels]
    return (
        f"Resize the picture's short side to {prep.resize} (bilinear, antialiased), crop "
        f"{prep.crop[0]}x{prep.crop[1]} from the middle, take {channels}, and compute "
        f"(pixel - mean) / std with mean {list(prep.mean)} and std {list(prep.std)}, in pixel "
        "levels. Export with `--preprocessing` to have that in the graph."
    )


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in " ._-" else "_" for c in name)


_EXAMPLES = {
    True: """pixels = np.asarray(Image.open("photo.jpg").convert("RGB"))
[[logits]] = session.run(["logits"], {"image": pixels[None]})""",
    False: """prep = json.loads(metadata["preprocessing"])
picture = Image.open("photo.jpg").convert("L" if prep["channels"] == "L" else "RGB")
scale = prep["resize"] / min(picture.size)
size = [max(prep["resize"], round(side * scale)) for side in picture.size]
picture = picture.resize(size, Image.Resampling.BILINEAR)
height, width = prep["crop"]
left, top = (picture.width - width) // 2, (picture.height - height) // 2
picture = picture.crop((left, top, left + width, top + height))
pixels = np.asarray(picture, np.float32).reshape(height, width, -1)
if prep["channels"] == "BGR":
    pixels = pixels[..., ::-1]
x = (pixels - np.float32(prep["mean"])) / np.float32(prep["std"])
[[logits]] = session.run(["logits"], {"input": x.transpose(2, 0, 1)[None]})""",
}
