"""A network as a JSON file: what ``--arch`` takes beside the name of a preset.

The file is an object whose member ``spec`` describes the network, as ``squeezenet info --json``
prints it. Other members are left alone, so that the output of ``info`` is such a file.
"""

from __future__ import annotations

import json
from pathlib import Path

from squeezenet.arch.json_file import read_json
from squeezenet.arch.presets import PRESETS, preset
from squeezenet.arch.record import spec_from_plain
from squeezenet.arch.serialization import to_plain
from squeezenet.arch.spec import NetworkSpec
from squeezenet.errors import SpecError, UnknownNameError

NETWORK_SUFFIX = ".json"


def find_network(arch: str | NetworkSpec) -> NetworkSpec:
    """Return the network of this name, or the one in a file whose name ends in ``.json``.

    A network is returned as it is.

    Raises:
        UnknownNameError: no preset has that name, or there is no such file.
        SpecError: the file does not describe a network.
    """
    if not isinstance(arch, str):
        return arch
    if not arch.endswith(NETWORK_SUFFIX):
        if arch not in PRESETS:
            raise UnknownNameError(
                f"unknown architecture {arch!r}; expected one of {', '.join(PRESETS)}, or "
                "a .json file with a network, such as squeezenet info --json prints"
            )
        return preset(arch)
    return read_network(Path(arch))


def read_network(file: Path) -> NetworkSpec:
    """Read the network of a JSON file.

    Raises:
        UnknownNameError: there is no such file.
        SpecError: it does not describe a network.
    """
    data = read_json(file, "a network")
    if not isinstance(data, dict) or "spec" not in data:
        raise SpecError(
            f'{file}: is no network, expected a JSON object with a member "spec", such as '
            "squeezenet info --json prints"
        )
    try:
        return spec_from_plain(data["spec"])
    except SpecError as error:
        raise SpecError(f"{file}: {error}") from None


def network_json(spec: NetworkSpec) -> str:
    """Return the text of a file that ``read_network`` reads."""
    return json.dumps({"spec": to_plain(spec)}, indent=1, ensure_ascii=False) + "\n"
