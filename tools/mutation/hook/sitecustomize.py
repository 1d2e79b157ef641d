"""Load one module of the package from a mutated text. Python imports this file at its start.

The runner puts this folder on PYTHONPATH, so a test that starts ``python -m squeezenet`` tests the
mutant too. No file of the checkout is changed. Two variables say what to do:

``SQUEEZENET_MUTANT``: a module's name, ``=``, and the file with its mutated text.
``SQUEEZENET_RECORD``: a data file; record which lines run. ``SQUEEZENET_CONTEXT`` names the test.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
import warnings
from pathlib import Path
from types import CodeType
from typing import Any


class MutantLoader(importlib.machinery.SourceFileLoader):
    """Compile the mutated text under the name of the real file. Leave no ``.pyc``."""

    def get_code(self, fullname: str) -> CodeType:
        text = Path(os.environ["SQUEEZENET_MUTANT"].partition("=")[2]).read_text("utf-8")
        with warnings.catch_warnings(action="ignore"):  # the compiler's remarks kill no mutant
            return compile(text, self.path, "exec", dont_inherit=True)


class MutantFinder:
    """Find the one mutated module. Leave all others to Python."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        if name != os.environ["SQUEEZENET_MUTANT"].partition("=")[0]:
            return None
        found = importlib.machinery.PathFinder.find_spec(name, path)
        assert found is not None and found.origin is not None
        return importlib.util.spec_from_file_location(
            name,
            found.origin,
            loader=MutantLoader(name, found.origin),
            submodule_search_locations=found.submodule_search_locations,
        )


if "SQUEEZENET_MUTANT" in os.environ:
    sys.meta_path.insert(0, MutantFinder)
elif __name__ == "sitecustomize" and "SQUEEZENET_RECORD" in os.environ:
    import coverage

    coverage.Coverage(
        data_file=os.environ["SQUEEZENET_RECORD"],
        data_suffix=True,
        auto_data=True,
        config_file=False,
        source=[os.environ["SQUEEZENET_SOURCE"]],
        context=os.environ.get("SQUEEZENET_CONTEXT", ""),
    ).start()
