"""Contents of a Bento beside its bundles: the modules of Overtile that serving imports, and the packages that these require."""

import ast
import importlib.metadata
import importlib.resources
import shutil
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

WHOLE = (
    "configs",
    "disk",
    "imaging",
    "models",
    "inference",
    "service",
)  # import roots
IN_PART = ("transforms", "datasets", "evaluation")  # only the modules that the others import; no training
TEMPLATES = ("*.j2", "*.js")  # of pages, beside the modules that render them
COMMANDS = ("command_line.py", "command.py", "*_command.py", "client")  # parts of the command line, which a server doesn't need
REQUIREMENTS = (
    "dbos", "fastapi", "google-crc32c", "h11", "highdicom", "imagecodecs", "jinja2", "marshmallow", "nibabel", "numpy",
    "omegaconf", "onnx", "onnxruntime", "onnxscript", "opencv-python-headless", "openslide-bin", "openslide-python",
    "openvino", "pillow", "opentelemetry-api", "opentelemetry-exporter-otlp-proto-http", "opentelemetry-sdk",
    "prometheus-client",
    "psutil", "pydantic", "pydicom", "python-multipart", "pyyaml", "safetensors", "scikit-image", "scipy", "sqlalchemy",
    "starlette", "tifffile", "torch", "uvicorn", "wsidicom", "zarr",
)  # fmt: skip


def copy_code(folder: Path) -> None:
    """Copy the modules that serving needs into a folder, from which they can be imported."""
    for root in WHOLE:
        copy_content(_root(root), folder / root, ("__pycache__", *COMMANDS))
    # of `IN_PART`, what these modules import, directly or through each other
    files: set[Path] = set()
    pending = list(folder.rglob("*.py"))
    while pending:
        imports = {file for name in imports_of(pending.pop()) for file in _files_of(name)}
        pending += [_root(file.parts[0]).parent / file for file in imports - files]
        files |= imports
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_root(file.parts[0]).parent / file, folder / file)
    for parent in {file.parent for file in files}:
        for template in (path for pattern in TEMPLATES for path in (_root(parent.parts[0]).parent / parent).glob(pattern)):
            shutil.copyfile(template, folder / parent / template.name)


def copy_content(source: Path, target: Path, ignored_patterns: Sequence[str] = ()) -> None:
    """Copy a folder without its modes, since BentoML couldn't move or delete the copy of a folder that is read-only.

    Args:
        source: folder.
        target: folder, which is created.
        ignored_patterns: patterns of the names of files and folders that aren't copied.
    """
    target.mkdir(parents=True)
    for path in source.iterdir():
        if any(fnmatch(path.name, pattern) for pattern in ignored_patterns):
            continue
        if path.is_dir():
            copy_content(path, target / path.name, ignored_patterns)
        else:
            shutil.copyfile(path, target / path.name)


def requirements() -> list[str]:
    """Return the required packages, pinned to the versions that are installed here, with which the bundles are verified."""
    # torch==2.13.0, without the build (`+cpu`) that is installed here
    return [f"{package}=={importlib.metadata.version(package).split('+')[0]}" for package in REQUIREMENTS]


def imports_of(file: Path) -> Iterator[str]:
    """Yield the names that may be modules: those after `import` and `from`, wherever they stand in the file."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files_of(name: str) -> list[Path]:
    """Return a module's file and those of its parent packages, relative to the import roots; empty outside of `IN_PART`."""
    parts = name.split(".")
    if parts[0] not in IN_PART:
        return []
    packages = [Path(*parts[:end], "__init__.py") for end in range(1, len(parts) + 1)]
    candidates = [*packages, Path(*parts).with_suffix(".py")]
    return [file for file in candidates if (_root(parts[0]).parent / file).is_file()]


def _root(package: str) -> Path:
    """Return the folder of a package's files, in a checkout or in an installed copy."""
    return Path(str(importlib.resources.files(package)))
