"""squeezenet: image classifiers of a few hundred kilobytes that run anywhere.

    import squeezenet

    squeezenet.train("photos", arch="squeezenet1_1", out="run")
    squeezenet.compress("run", data="photos", out="photos.sqz")
    classify = squeezenet.Classifier("photos.sqz")
    classify("new.jpg")[0].label

Data flows one way, a folder a stage:

    arch -> model -> train -> compress -> codec -> FILE.sqz -> reference | client | export

Each folder's ``__init__`` says what enters it and what leaves it. Importing ``squeezenet`` imports
none of them, nor NumPy, nor torch: a name is loaded when it is first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from squeezenet.api.compress import compress
    from squeezenet.api.compression_table import CompressionTableResult, compression_table
    from squeezenet.api.explore import StudyResult, explore, search
    from squeezenet.api.open_model import OpenModel, open_model
    from squeezenet.api.shard import ShardResult, index_shards, shard
    from squeezenet.api.train import TrainResult, train
    from squeezenet.client import Classifier, Prediction
    from squeezenet.compress.report import CompressionReport as CompressionReport
    from squeezenet.errors import SqueezeNetError
    from squeezenet.images.limits import ImageLimits

__version__ = "0.1.0"
__all__ = [
    "Classifier",
    "CompressionTableResult",
    "ImageLimits",
    "OpenModel",
    "Prediction",
    "ShardResult",
    "SqueezeNetError",
    "StudyResult",
    "TrainResult",
    "__version__",
    "compress",
    "compression_table",
    "explore",
    "index_shards",
    "open_model",
    "search",
    "shard",
    "train",
]
_MODULES = {
    "Classifier": "client",
    "CompressionReport": "compress.report",
    "CompressionTableResult": "api.compression_table",
    "ImageLimits": "images.limits",
    "OpenModel": "api.open_model",
    "Prediction": "client",
    "ShardResult": "api.shard",
    "SqueezeNetError": "errors",
    "StudyResult": "api.explore",
    "TrainResult": "api.train",
    "compression_table": "api.compression_table",
    "index_shards": "api.shard",
    "open_model": "api.open_model",
    "search": "api.explore",
    "shard": "api.shard",
}
"""Public name -> the module that it is loaded from; for functions see ``_Package``.
``CompressionReport`` is not in ``__all__``, since loading it needs torch."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _FunctionWithFolder:
    """An attribute of the package that is a function, where a folder of that name exists too.

    The import system assigns the folder to it, which changes nothing. The folder's modules are
    attributes of the function, so that ``import squeezenet.train.fit as fit`` works as ever.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, package: ModuleType, owner: type) -> Any:
        function = getattr(import_module(f"{__name__}.api.{self._name}"), self._name)
        folder = sys.modules.get(f"{__name__}.{self._name}")
        for name, value in vars(folder).items() if folder else ():
            if isinstance(value, ModuleType):
                setattr(function, name, value)
        return function

    def __set__(self, package: ModuleType, folder: ModuleType) -> None:
        return None


class _Package(ModuleType):
    train = _FunctionWithFolder()
    compress = _FunctionWithFolder()
    explore = _FunctionWithFolder()


sys.modules[__name__].__class__ = _Package
