"""Build the archive of the sources and the wheel, and try them in fresh environments.

    python tools/release_check.py                 everything; downloads torch
    python tools/release_check.py --skip-train    without what needs torch

Nothing of this checkout is in the environments, and ``constraints.txt`` is not used. The extra
``train`` is installed as the program's own hint says, after the torch that ``--torch`` names: the
one of ``constraints.txt``, of which a CPU build may be offered. Prints a table, and leaves with
exit code 1 if one check fails.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
CLASSES = "airplane", "cat"
"""Two of the classes of the network that comes with the package."""
_PICTURES = """
import sys
from pathlib import Path
from PIL import Image
for name, colour in zip(sys.argv[1:], ("skyblue", "orange")):
    folder = Path("pictures") / name
    folder.mkdir(parents=True)
    for index in range(2):
        Image.new("RGB", (48 + index, 40), colour).save(folder / f"{index}.png")
"""
_API = """
import sys
import squeezenet
assert "numpy" not in sys.modules
classify = squeezenet.Classifier()
print(classify)
print(classify("pictures/cat/0.png", top=1)[0].label)
assert "torch" not in sys.modules
"""


class CheckError(Exception):
    """A program ended with another exit code, or printed something else, than expected."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One check: what was tried, how long it took, and what came of it."""

    name: str
    seconds: float
    passed: bool
    note: str


class Environment:
    """A fresh virtual environment, in which programs run beside a folder ``pictures``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cwd = folder / "work"
        call([sys.executable, "-m", "venv", str(folder)])
        self._cwd.mkdir()

    def install(self, *requirements: str) -> None:
        """Install by pip, as a user would."""
        self.run("python", "-m", "pip", "install", "--quiet", *requirements, seconds=1800)

    def make_pictures(self) -> None:
        """Draw some pictures of ``CLASSES`` in ``pictures/<class>/``."""
        self.run("python", "-c", _PICTURES, *CLASSES)

    def run(self, program: str, *arguments: str, code: int = 0, seconds: float = 900) -> str:
        """Run a program of the environment and return what it prints, stderr included."""
        path = self._folder / "bin" / program
        return call([str(path), *arguments], code=code, cwd=self._cwd, seconds=seconds)

    def read(self, name: str) -> bytes:
        """Return a file that a program wrote."""
        return (self._cwd / name).read_bytes()

    def has(self, module: str) -> bool:
        """Whether a module can be imported."""
        find = f"import importlib.util as u; print(u.find_spec({module!r}) is not None)"
        return self.run("python", "-c", find).strip() == "True"


def call(
    command: list[str], *, code: int = 0, cwd: Path | None = None, seconds: float = 900
) -> str:
    """Run a program without this checkout on its path, and return what it prints.

    Raises:
        CheckError: it ended with another exit code than ``code``, or not in time.
    """
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    name = " ".join(Path(part).name if "/" in part else part for part in command[:4])
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise CheckError(f"{name!r} took more than {seconds:.0f} s") from None
    if done.returncode != code:
        raise CheckError(
            f"{name!r}: exit code {done.returncode}, expected {code}\n{done.stdout[-3000:]}"
        )
    return done.stdout


class Release:
    """The files of a release, and the checks; each returns a note for the table."""

    def __init__(self, work: Path, torch: str) -> None:
        self._work = work
        self._torch = torch
        self._dist = work / "dist"

    @property
    def _wheel(self) -> Path:
        (wheel,) = self._dist.glob("*.whl")
        return wheel

    @property
    def _sdist(self) -> Path:
        (sdist,) = self._dist.glob("*.tar.gz")
        return sdist

    def build(self) -> str:
        """The archive of the sources, and the wheel from it."""
        tree = self._copy_of_tracked_files()
        call([sys.executable, "-m", "build", "--quiet", "--outdir", str(self._dist), str(tree)])
        return ", ".join(f"{f.name} {f.stat().st_size:,} bytes" for f in (self._sdist, self._wheel))

    def same_wheel(self) -> str:
        """The wheel from the checkout has the files of the wheel from the archive."""
        other = self._work / "from-tree"
        tree = str(self._work / "tree")
        call([sys.executable, "-m", "build", "--quiet", "--wheel", "--outdir", str(other), tree])
        (direct,) = other.glob("*.whl")
        names = [set(zipfile.ZipFile(wheel).namelist()) for wheel in (direct, self._wheel)]
        if names[0] != names[1]:
            raise CheckError(f"files that only one wheel has: {sorted(names[0] ^ names[1])[:10]}")
        return f"{len(names[0])} files"

    def sbom(self) -> str:
        """The SBOM of the wheel, by the packages of this environment."""
        tool = Path(__file__).with_name("dependencies.py")
        call([sys.executable, str(tool), "sbom", str(self._wheel)])
        (path,) = self._dist.glob("*.cdx.json")
        return f"{path.name} {path.stat().st_size:,} bytes"

    def light(self) -> str:
        """Without extras: the API, ``predict``, ``eval``, ``info`` and the golden files."""
        env = self._light("light", str(self._wheel))
        said = env.run("python", "-c", _API).splitlines()
        env.run("squeezenet", "info", "default")
        measured = env.run("squeezenet", "eval", "default", "pictures")
        return f"{said[0]}; {measured.strip().splitlines()[-1]}"

    def from_sdist(self) -> str:
        """pip compiles the archive of the sources."""
        self._light("sdist", str(self._sdist))
        return "compiled and installed by pip"

    def report(self) -> str:
        """The extra ``report`` draws."""
        env = Environment(self._work / "report")
        env.install(f"{self._wheel}[report]")
        env.make_pictures()
        if env.has("torch"):
            raise CheckError("the extra report brings torch")
        return env.run(
            "squeezenet", "report", "default", "pictures", "--out", "drawn"
        ).splitlines()[-1]

    def onnx(self) -> str:
        """The extra ``onnx`` exports a ``.sqz``; reading ONNX asks for the extra ``train``."""
        env = Environment(self._work / "onnx")
        env.install(f"{self._wheel}[onnx]")
        if env.has("torch"):
            raise CheckError("the extra onnx brings torch")
        written = env.run("squeezenet", "export", "default", "--to", "onnx", "--out", "exported")
        arguments = ["convert", "exported/float32.onnx", "back.safetensors"]
        hint = env.run("squeezenet", *arguments, code=1)
        if "[train]" not in hint:
            raise CheckError(f"the hint says nothing of the extra train: {hint}")
        return written.strip().splitlines()[-1]

    def onnx_back(self) -> str:
        """With torch beside it, the ONNX file gives back what the ``.sqz`` itself does."""
        env = Environment(self._work / "onnx-back")
        env.install(self._torch)
        env.install(f"{self._wheel}[train,onnx]")
        env.run("squeezenet", "export", "default", "--to", "onnx", "--out", "exported")
        env.run("squeezenet", "convert", "default", "direct.safetensors")
        env.run("squeezenet", "convert", "exported/float32.onnx", "back.safetensors")
        direct, back = (env.read(f"{name}.safetensors") for name in ("direct", "back"))
        if direct != back:
            raise CheckError("weights or record read back from ONNX are not those of the .sqz")
        return f"the same {len(back):,} bytes of .safetensors from .sqz and .onnx"

    def train(self) -> str:
        """The extra ``train``, as the hint says: train, compress, evaluate, predict."""
        env = Environment(self._work / "train")
        env.install(str(self._wheel))
        env.make_pictures()
        arguments = ["digits", "--arch", "squeezenet_tiny", "--epochs", "1", "--out", "run"]
        hint = env.run("squeezenet", "train", *arguments, code=1)
        found = re.search(r"pip install '([^']+)'", hint)
        if found is None or "pytorch.org/get-started" not in hint:
            raise CheckError(f"the hint says nothing of pip and of a CPU build: {hint}")
        env.install(self._torch)
        version = "import torch; print(torch.__version__)"
        before = env.run("python", "-c", version)
        env.install(found.group(1))
        after = env.run("python", "-c", version).strip()
        if after != before.strip():
            raise CheckError(f"the extra train replaced torch {before.strip()} by {after}")
        trained = env.run("squeezenet", "train", *arguments).strip().splitlines()[-1]
        options = ["--data", "digits", "--effort", "low", "--out", "digits.sqz"]
        env.run("squeezenet", "compress", "run", *options)
        measured = env.run("squeezenet", "eval", "digits.sqz", "digits").strip()
        env.run("squeezenet", "predict", "digits.sqz", "pictures/cat/0.png")
        return f"torch {after}; {trained}; compressed {measured.splitlines()[-1]}"

    def _light(self, name: str, requirement: str) -> Environment:
        env = Environment(self._work / name)
        env.install(requirement)
        env.make_pictures()
        if env.has("torch"):
            raise CheckError("the light install brings torch")
        env.run("squeezenet", "predict", "pictures/cat/0.png")
        env.run("python", str(self._work / "tree" / "spec" / "tools" / "golden.py"))
        return env

    def _copy_of_tracked_files(self) -> Path:
        """The checkout as git has it, with changes, without build outputs or what lies about."""
        tree = self._work / "tree"
        listed = call(["git", "-C", str(REPOSITORY), "ls-files", "-z"]).split("\0")
        for name in filter(None, listed):
            source, copy = REPOSITORY / name, tree / name
            if source.is_symlink() or source.is_file():  # not removed since
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, copy, follow_symlinks=False)
        return tree


def tried(name: str, check: Callable[[], str]) -> Row:
    """Run one check."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    started = time.monotonic()
    try:
        note, passed = check(), True
    except CheckError as error:
        print(error, file=sys.stderr)
        note, passed = str(error).splitlines()[0], False
    return Row(name=name, seconds=time.monotonic() - started, passed=passed, note=note)


def main() -> int:
    """Run the checks, print the table, return the exit code."""
    pinned = re.search(r"^torch==\S+", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--skip-train", action="store_true", help="leave out what needs torch")
    parser.add_argument("--torch", default=pinned.group(), help="what pip installs before [train]")
    parser.add_argument("--work", type=Path, default=Path("build") / "release-check")
    options = parser.parse_args()
    work = options.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    release = Release(work, options.torch)
    rows = [tried("build", release.build)]
    if rows[0].passed:
        checks: list[tuple[str, Callable[[], str]]] = [
            ("wheel from the checkout", release.same_wheel),
            ("SBOM", release.sbom),
            ("light", release.light),
            ("light, from the sdist", release.from_sdist),
            ("[report]", release.report),
            ("[onnx]", release.onnx),
        ]
        if not options.skip_train:
            checks += [("[train]", release.train), ("[train,onnx]", release.onnx_back)]
        rows += [tried(name, check) for name, check in checks]
    print("| check | seconds | result | |\n|---|--:|---|---|")
    for row in rows:
        result = "passed" if row.passed else "FAILED"
        print(f"| {row.name} | {row.seconds:.0f} | {result} | {row.note} |")
    return int(not all(row.passed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
