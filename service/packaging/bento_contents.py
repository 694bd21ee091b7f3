"""What a Bento holds beside its bundles: our modules that serving imports, and the packages that those import."""

import ast
import importlib.metadata
import importlib.resources
import shutil
from collections.abc import Iterator
from pathlib import Path

WHOLE = (
    "configs",
    "disk",
    "imaging",
    "models",
    "inference",
    "service",
)  # import roots
IN_PART = ("transforms", "datasets", "evaluation")  # only the modules that the others import; training stays at home
COMMANDS = ("*_command.py", "client")  # of the command line: a server needs none
REQUIREMENTS = (
    "dbos", "fastapi", "google-crc32c", "h11", "highdicom", "imagecodecs", "marshmallow", "nibabel", "numpy", "omegaconf",
    "onnx", "onnxruntime", "onnxscript", "openslide-bin", "openslide-python", "openvino", "pillow", "opentelemetry-api",
    "opentelemetry-exporter-otlp-proto-http", "opentelemetry-sdk", "prometheus-client",
    "psutil", "pydantic", "pydicom", "python-multipart", "pyyaml", "safetensors", "scikit-image", "scipy", "sqlalchemy",
    "starlette", "tifffile", "torch", "uvicorn", "wsidicom", "zarr",
)  # fmt: skip


def copy_code(folder: Path) -> None:
    """Puts our modules into a folder, from which they can be imported."""
    for root in WHOLE:
        shutil.copytree(_root(root), folder / root, ignore=shutil.ignore_patterns("__pycache__", *COMMANDS))
    for file in _imported(folder):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(_root(file.parts[0]).parent / file, folder / file)


def requirements() -> list[str]:
    """Pinned to what the bundles were verified with."""
    return [_pinned(requirement) for requirement in REQUIREMENTS]


def _imported(folder: Path) -> set[Path]:
    """The files of the folders in part that the modules in `folder` import, and those that these import, and so on."""
    found: set[Path] = set()
    waiting = list(folder.rglob("*.py"))
    while waiting:
        wanted = {file for name in imports_of(waiting.pop()) for file in _files_of(name)}
        waiting += [_root(file.parts[0]).parent / file for file in wanted - found]
        found |= wanted
    return found


def imports_of(file: Path) -> Iterator[str]:
    """Names that may be modules: those after `import` and `from`, wherever they stand in the file."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files_of(name: str) -> list[Path]:
    """A module's file and those of the packages that it lies in, relative to the import roots; none where it isn't in part."""
    parts = name.split(".")
    if parts[0] not in IN_PART:
        return []
    above = [Path(*parts[:end], "__init__.py") for end in range(1, len(parts) + 1)]
    possible = [*above, Path(*parts).with_suffix(".py")]
    return [file for file in possible if (_root(parts[0]).parent / file).is_file()]


def _root(package: str) -> Path:
    """Where a package's files lie, in a checkout or in an installed copy."""
    return Path(str(importlib.resources.files(package)))


def _pinned(requirement: str) -> str:
    """`torch==2.13.0`, without the build that is installed here (`+cpu`)."""
    return f"{requirement}=={importlib.metadata.version(requirement).split('+')[0]}"
