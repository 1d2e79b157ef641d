"""What is installed and built: pinned, with hashes, and listed with licences."""

from __future__ import annotations

import re
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tools"))
import dependencies as tool

CONSTRAINTS = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
LOCK = (REPOSITORY / "requirements-test.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_lock_has_the_versions_of_the_constraints_with_hashes() -> None:
    lines = [line for line in LOCK.splitlines() if not line.startswith("#")]
    locked = {}
    for line in lines:
        found = re.fullmatch(r"([\w.-]+)==(\S+) --hash=sha256:[0-9a-f]{64}", line)
        assert found is not None, line
        locked[tool.normal(found[1])] = found[2]
    pinned = dict(
        line.split("==") for line in CONSTRAINTS.splitlines() if line and not line.startswith("#")
    )
    expected = {tool.normal(name): version for name, version in pinned.items() if name != "torch"}
    build = dict(each.split("==") for each in PROJECT["build-system"]["requires"][:1])
    assert locked == expected | build
    assert "//" not in LOCK and "file:" not in LOCK  # no host, and no index


def test_build_requirements_are_exact() -> None:
    for requirement in PROJECT["build-system"]["requires"]:
        assert re.match(r"[\w-]+==\d[\d.]*(;|$)", requirement), requirement


def test_every_dependency_has_a_licence() -> None:
    requirements = PROJECT["project"]["dependencies"] + [
        f"{each}; extra == '{extra}'"
        for extra, brought in PROJECT["project"]["optional-dependencies"].items()
        for each in brought
    ]
    found = {each.name: each for each in tool.dependencies(requirements, tool.EXTRAS)}
    assert {"numpy", "pillow", "torch", "matplotlib", "pytest"} <= found.keys()
    assert [found[name].extra for name in ("numpy", "rich", "matplotlib", "torch")] == [
        "", "", "report", "train"
    ]  # fmt: skip
    assert all(each.licence != "unknown" for each in found.values())


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel that has nothing but its metadata."""
    path = tmp_path / "sqznet-0.1.0-cp311-abi3-any.whl"
    requires = "".join(
        f"Requires-Dist: {each}\n"
        for each in ["numpy>=1", "rich", "matplotlib; extra == 'report'", "pytest; extra == 'dev'"]
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "sqznet-0.1.0.dist-info/METADATA",
            f"Metadata-Version: 2.4\nName: sqznet\nVersion: 0.1.0\n"
            f"License-Expression: Apache-2.0\n{requires}\nText",
        )
    return path


def test_sbom(wheel: Path) -> None:
    bom = tool.sbom(wheel)
    assert bom == tool.sbom(wheel)
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    own = bom["metadata"]["component"]
    assert own["purl"] == "pkg:pypi/sqznet@0.1.0"
    assert own["licenses"] == [{"expression": "Apache-2.0"}] and len(own["hashes"]) == 1
    components = {each["name"]: each for each in bom["components"]}
    assert components["numpy"]["version"] == metadata.version("numpy")
    scopes = {name: each["scope"] for name, each in components.items()}
    assert scopes["numpy"] == scopes["pygments"] == "required"  # rich needs pygments
    assert scopes["matplotlib"] == scopes["cycler"] == "optional" and "pytest" not in scopes
    needs = {entry["ref"]: entry["dependsOn"] for entry in bom["dependencies"]}
    assert components["pygments"]["purl"] in needs[components["rich"]["purl"]]
    assert len(needs[own["bom-ref"]]) == 3


def test_an_invalid_sbom_is_refused(wheel: Path) -> None:
    for field in ("serialNumber", "components", "version"):
        with pytest.raises(ValueError, match=field):
            tool.require_valid(tool.sbom(wheel) | {field: None})
    bom = tool.sbom(wheel)
    bom["components"][0]["licenses"] = []
    with pytest.raises(ValueError, match="has no licenses"):
        tool.require_valid(bom)
    bom = tool.sbom(wheel)
    bom["dependencies"][0]["dependsOn"].append("pkg:pypi/none@1")
    with pytest.raises(ValueError, match="nothing has the reference"):
        tool.require_valid(bom)
