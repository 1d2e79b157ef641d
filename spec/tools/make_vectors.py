"""Write the vectors: golden ``.sqz`` files that every reader must accept, or must refuse.

    python spec/tools/make_vectors.py             writes ../vectors (accept/, reject/, the tables of
                                                  README.md) and the worked example of ../FORMAT.md
    python spec/tools/make_vectors.py --check     compares instead; exit code 1 if a file differs
    python spec/tools/make_vectors.py --explain   prints the worked example

Needs ``squeezenet`` installed. Everything is deterministic, down to the last digit.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import accepted as accepted_module
from accepted import accepted, expected_json
from explain import worked_example
from rejected import rejected

VECTORS = Path(__file__).parents[1] / "vectors"
BEGIN, END = "<!-- made by spec/tools/make_vectors.py: {} -->", "<!-- end -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with what is there")
    parser.add_argument("--explain", action="store_true", help="print the worked example")
    options = parser.parse_args()
    if options.explain:
        print(worked_example(), end="")
        return
    files = made()
    there = {path for name in ("accept", "reject") for path in (VECTORS / name).glob("*")}
    wrong = [path for path, data in files.items() if not _holds(path, data)]
    left_over = there - set(files)
    if options.check:
        for path in sorted({*wrong, *left_over}):
            print(f"{path}: differs; run python spec/tools/make_vectors.py", file=sys.stderr)
        sys.exit(bool(wrong or left_over))
    for path in wrong:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(files[path])
    for path in left_over:
        path.unlink()
    print(f"{len(wrong)} written, {len(left_over)} removed")


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def made() -> dict[Path, bytes]:
    """Return every file with its bytes."""
    files = {}
    good, bad = accepted(), rejected()
    for name, file in good.items():
        files[VECTORS / "accept" / f"{name}.sqz"] = file.data
        files[VECTORS / "accept" / f"{name}.json"] = _lines(expected_json(file))
    for name, case in bad.items():
        files[VECTORS / "reject" / f"{name}.sqz"] = case.data
    errors: dict[str, Any] = {
        f"{name}.sqz": {"error": case.error, "why": case.why}
        | ({} if case.c == case.error else {"c": case.c})
        for name, case in bad.items()
    }
    files[VECTORS / "reject" / "errors.json"] = _lines(errors)
    accept_rows = [f"| `{name}` | {_promise(name)} |" for name in good]
    reject_rows = [f"| `{name}` | {case.error} | {case.why} |" for name, case in bad.items()]
    readme = (VECTORS / "README.md").read_text()
    readme = _put(
        readme, "accept", "\n".join(["| file | what it shows |", "|---|---|", *accept_rows])
    )
    readme = _put(
        readme, "reject", "\n".join(["| file | error | why |", "|---|---|---|", *reject_rows])
    )
    files[VECTORS / "README.md"] = readme.encode()
    format_md = VECTORS.parent / "FORMAT.md"
    files[format_md] = _put(format_md.read_text(), "example", worked_example()).encode()
    return files


def _lines(members: dict[str, Any]) -> bytes:
    """Return JSON with a line for each member, and for each item of a list of objects."""
    texts = []
    for key, value in members.items():
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list) and isinstance(value[0], dict):
            text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        texts.append(f" {json.dumps(key)}: {text}")
    return ("{\n" + ",\n".join(texts) + "\n}\n").encode()


def _promise(name: str) -> str:
    """What the docstring of the function that makes a file says."""
    functions = vars(accepted_module)
    function = functions.get(f"_{name}") or functions[name]
    return " ".join((inspect.getdoc(function) or "").split())


def _put(text: str, name: str, made: str) -> str:
    before, rest = text.split(BEGIN.format(name) + "\n")
    after = rest.split(END, 1)[1]
    return f"{before}{BEGIN.format(name)}\n{made.rstrip()}\n{END}{after}"


if __name__ == "__main__":
    main()
