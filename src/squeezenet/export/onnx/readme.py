"""The page in the folder of ``export --to onnx``: inputs, outputs, how to run the graphs."""

from __future__ import annotations

from collections.abc import Mapping

from squeezenet.arch.preprocessing import Preprocessing
from squeezenet.arch.record import ModelRecord
from squeezenet.export.onnx import FLOAT_FILE, INT8_FILE
from squeezenet.export.onnx.builder import INPUT, LOGITS
from squeezenet.export.onnx.preprocessing import IMAGE

FLOAT32 = "Float32, with the weights that the file stands for."
EXACT = (
    "The arithmetic of squeezenet's integer clients, step by step, in float32 numbers: their "
    "logits in any engine that computes in true float32, at less than the speed of float32."
)


def about_int8(layers: tuple[str, ...]) -> str:
    """Say what int8 is, and where ONNX Runtime's sums are not exact: ``saturating_layers``."""
    about = (
        "Int8 (QDQ), with the file's own levels, scales, zero points and biases; it rounds "
        "otherwise than squeezenet's clients, so a few predictions differ."
    )
    if not layers:
        return (
            f"{about} No sum of two products overflows the 16 bits that x86 processors without "
            "VNNI have for them."
        )
    few = ", ".join(layers[:4]) + (", ..." if len(layers) > 4 else "")
    return (
        f"{about} On x86 processors without VNNI (AVX2, or AVX-512 alone), ONNX Runtime adds two "
        f"products in 16 bits, which may saturate in {len(layers)} of the layers here ({few}): use "
        f"{FLOAT_FILE} there, or compare the accuracy first."
    )


def about_folder(
    record: ModelRecord, name: str, about: Mapping[str, str], *, preprocessing: bool
) -> str:
    """Return the page, Markdown; ``about`` says what each graph is, by the file's name."""
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
    files = "\n".join(f"- `{file}`: {text}" for file, text in about.items())
    if INT8_FILE not in about:
        files += f"\n- There is no `{INT8_FILE}`: the .sqz is for float32 alone."
    return f"""# {_plain(name)} as ONNX

Written by `squeezenet export --to onnx`. Opset 13.

{files}

Input {source} N, the number of pictures, may be any.

Output `{LOGITS}`: float32 (N, {classes}). The probabilities of the classes are their softmax.

The metadata have `class_names` and `class_ids` (JSON lists), and `preprocessing` (JSON; means and
standard deviations are in pixel levels, 0 to 255).

```python
import json
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("{INT8_FILE if INT8_FILE in about else FLOAT_FILE}")
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
