"""What the package depends on: the licences, and the SBOM of a wheel.

    python tools/dependencies.py licences
    python tools/dependencies.py sbom dist/sqznet-0.1.0-....whl

The SBOM is CycloneDX 1.6 in JSON, beside the wheel: the wheel with its hash, and its dependencies,
direct and indirect, in the versions that are installed here. What extras bring is optional. The
facts are those of the packages' own metadata.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import uuid
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

PACKAGE = "sqznet"
EXTRAS = ("", "report", "onnx", "train", "dev", "docs", "mutation")
"""The install without extras first; a dependency is listed with the first that brings it."""
SHIPPED_EXTRAS = ("", "report", "onnx", "train")
"""The extras for users of the package."""
_REQUIRED_FIELDS = ("bomFormat", "specVersion", "serialNumber", "version", "metadata", "components")


@dataclass(frozen=True, kw_only=True)
class Dependency:
    """An installed package. ``needs`` are names of others; ``extra`` is "" or what brings it."""

    name: str
    version: str
    licence: str
    extra: str
    needs: tuple[str, ...]

    @property
    def purl(self) -> str:
        """The package URL: its version without what a local build adds."""
        return f"pkg:pypi/{self.name}@{self.version.partition('+')[0]}"


def dependencies(requirements: Iterable[str], extras: Iterable[str]) -> list[Dependency]:
    """Return the installed packages that requirements bring, direct and indirect, by name.

    Raises:
        SystemExit: one for users of the package is not installed.
    """
    wanted = [Requirement(text) for text in requirements]
    found: dict[str, Dependency] = {}
    for extra in extras:
        pending = [r for r in wanted if _applies(r, {extra})]
        while pending:
            requirement = pending.pop()
            name = normal(requirement.name)
            if name in found:
                continue
            try:
                installed = metadata.distribution(name)
            except metadata.PackageNotFoundError:
                if extra in SHIPPED_EXTRAS:
                    sys.exit(f"{name} is not installed, expected all of [train,onnx]: make setup")
                continue
            own = [Requirement(text) for text in installed.requires or ()]
            needs = [r for r in own if _applies(r, {"", *requirement.extras})]
            found[name] = Dependency(
                name=name,
                version=installed.version,
                licence=licence(installed.metadata),
                extra=extra,
                needs=tuple(sorted({normal(r.name) for r in needs})),
            )
            pending += needs
    return [found[name] for name in sorted(found)]


def normal(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(facts: Any) -> str:
    """Return a package's licence from its metadata: an SPDX expression where it has one."""
    if facts.get("License-Expression"):
        return str(facts["License-Expression"])
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in facts.get_all("Classifier") or ()
        if text.startswith("License :: ") and text != "License :: OSI Approved"
    ]
    first_line = str(facts.get("License") or "").strip().partition("\n")[0]
    return ", ".join(classifiers) or first_line or "unknown"


def sbom(wheel: Path) -> dict[str, Any]:
    """Return the SBOM of a wheel; the same wheel and environment give the same one."""
    facts = wheel_metadata(wheel)
    brought = dependencies(facts.get_all("Requires-Dist") or (), SHIPPED_EXTRAS)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    own = f"pkg:pypi/{normal(facts['Name'])}@{facts['Version']}"
    purls = {each.name: each.purl for each in brought}
    direct = {normal(Requirement(text).name) for text in facts.get_all("Requires-Dist") or ()}
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{own}?sha256={digest}')}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": own,
                "name": facts["Name"],
                "version": facts["Version"],
                "purl": own,
                "licenses": _licences(licence(facts), bool(facts["License-Expression"])),
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
        },
        "components": [
            {
                "type": "library",
                "bom-ref": each.purl,
                "name": each.name,
                "version": each.version,
                "purl": each.purl,
                "scope": "optional" if each.extra else "required",
                "licenses": _licences(each.licence, False),
            }
            for each in brought
        ],
        "dependencies": [
            {"ref": own, "dependsOn": sorted(purls[name] for name in direct & purls.keys())},
            *(
                {
                    "ref": each.purl,
                    "dependsOn": [purls[name] for name in each.needs if name in purls],
                }
                for each in brought
            ),
        ],
    }
    require_valid(bom)
    return bom


def require_valid(bom: dict[str, Any]) -> None:
    """Check the fields that the schema of CycloneDX requires, and all references.

    Raises:
        ValueError: says which field is missing or wrong.
    """
    for field in _REQUIRED_FIELDS:
        if not bom.get(field):
            raise ValueError(f"SBOM: no {field}")
    if bom["bomFormat"] != "CycloneDX" or not re.fullmatch(
        r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bom["serialNumber"]
    ):
        raise ValueError("SBOM: wrong format or serial number")
    components = [bom["metadata"]["component"], *bom["components"]]
    refs = [component["bom-ref"] for component in components]
    if len(set(refs)) != len(refs):
        raise ValueError("SBOM: a reference occurs twice")
    for component in components:
        for field in ("type", "name", "version", "purl", "licenses"):
            if not component.get(field):
                raise ValueError(f"SBOM: {component.get('name')} has no {field}")
    for entry in bom["dependencies"]:
        unknown = {entry["ref"], *entry["dependsOn"]} - set(refs)
        if unknown:
            raise ValueError(f"SBOM: nothing has the reference {sorted(unknown)[0]}")


def wheel_metadata(wheel: Path) -> Message:
    """Read the METADATA of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def _licences(text: str, is_expression: bool) -> list[dict[str, Any]]:
    return [{"expression": text}] if is_expression else [{"license": {"name": text}}]


def _applies(requirement: Requirement, extras: set[str]) -> bool:
    """Whether a requirement is for one of the extras on this system; "" stands for none."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)


def main() -> int:
    """Print the licences, or write SBOMs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("licences", help="print name, version, licence and extra of each")
    wheels = commands.add_parser("sbom", help="write WHEEL.cdx.json beside each wheel")
    wheels.add_argument("wheels", nargs="+", type=Path)
    options = parser.parse_args()
    if options.command == "licences":
        print("| package | version | licence | install |\n|---|---|---|---|")
        for each in dependencies(metadata.requires(PACKAGE) or (), EXTRAS):
            extra = f"[{each.extra}]" if each.extra else "light"
            print(f"| {each.name} | {each.version} | {each.licence} | {extra} |")
        return 0
    for wheel in options.wheels:
        bom = sbom(wheel)
        path = wheel.with_name(f"{wheel.name}.cdx.json")
        path.write_text(json.dumps(bom, indent=1) + "\n", encoding="utf-8")
        print(f"{path}: {len(bom['components'])} components")
    return 0


if __name__ == "__main__":
    sys.exit(main())
