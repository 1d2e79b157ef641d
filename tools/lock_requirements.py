"""Write ``requirements-test.lock``: the versions of ``constraints.txt`` with the hashes of files.

    python tools/lock_requirements.py

The hashes are those of the files that pip would take from PyPI for the Python and the system that
this runs on, so the lock holds for those. torch is left out: a CPU build comes from another index.
An editable install takes no hashes, so the lock is installed before the package:

    (torch 2.13.0, a CPU build, as pytorch.org/get-started says)
    pip install --no-deps --require-hashes -r requirements-test.lock
    pip install --no-deps --no-build-isolation -e .
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

REPOSITORY = Path(__file__).parents[1]
LOCK = REPOSITORY / "requirements-test.lock"
_OTHER_INDEX = ("torch",)


def pinned(text: str) -> list[str]:
    """Return the lines ``name==version`` of a file of constraints."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line and line.partition("==")[0] not in _OTHER_INDEX]


def build_requirements() -> list[str]:
    """Return what the build needs on every system, from ``pyproject.toml``."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    return [each for each in project["build-system"]["requires"] if ";" not in each]


def hashes(requirements: list[str]) -> dict[str, str]:
    """Ask pip for the file that it would install for each requirement: its SHA-256.

    Raises:
        SystemExit: a file comes from this machine, so that nobody else would get it.
    """
    env = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    env["PIP_CONFIG_FILE"] = os.devnull  # pip's own index and no other
    with tempfile.TemporaryDirectory() as folder:
        asked, report = Path(folder) / "asked.txt", Path(folder) / "report.json"
        asked.write_text("\n".join(requirements))
        options = ["--dry-run", "--ignore-installed", "--no-deps", "--quiet"]
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", *options),
                *("--report", str(report), "-r", str(asked)),
            ],
            env=env,
            check=True,
        )
        found = {}
        for item in json.loads(report.read_text(encoding="utf-8"))["install"]:
            name = f"{item['metadata']['name']}=={item['metadata']['version']}"
            info = item["download_info"]
            if urlsplit(info["url"]).scheme != "https":
                sys.exit(f"{name}: comes from {info['url']}, expected the index")
            found[name] = info["archive_info"]["hashes"]["sha256"]
    return found


def main() -> None:
    """Write the lock."""
    constraints = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    found = hashes([*pinned(constraints), *build_requirements()])
    python = f"{platform.python_implementation()} {sys.version_info.major}.{sys.version_info.minor}"
    lines = [
        f"# For {python} on {sysconfig.get_platform()}, by tools/lock_requirements.py, which says",
        "# how to install it. torch is left out.",
    ]
    for name in sorted(found, key=str.lower):
        lines.append(f"{name} --hash=sha256:{found[name]}")
    LOCK.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{LOCK.name}: {len(found)} packages")


if __name__ == "__main__":
    main()
