"""Bundles -> BentoML's model store and a Bento, the one thing that is shipped and served."""

import hashlib
import importlib.metadata
import importlib.resources
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.bundle import Bundle

BENTO = "overtile"

# What serving imports, as import roots; training stays at home.
_PACKAGES = ("configs", "imaging", "transforms", "models", "inference", "evaluation", "service")
_REQUIREMENTS = (
    "fastapi", "google-crc32c", "highdicom", "imagecodecs", "marshmallow", "nibabel", "numpy", "omegaconf", "openslide-bin",
    "openslide-python", "pillow", "pydantic", "pydicom", "safetensors", "scipy", "tifffile", "torch", "wsidicom", "zarr",
)  # fmt: skip
_TAG_LENGTH = 63  # BentoML's longest name
_DIGEST_LENGTH = 16


def package(bundle_folders: Sequence[Path]) -> str:
    """Verifies the bundles, stores them as BentoML models and builds a Bento with all of them.

    Returns:
        The Bento's tag, `overtile:VERSION`.

    Raises:
        BundleError: a folder isn't a bundle, was changed, two are named alike, or one gives values and no masks.
    """
    from models.bundle import load
    from service.servable import check_servable

    bundles = [load(folder) for folder in bundle_folders]
    check_servable(bundles)
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    return _build([_store(bundle) for bundle in bundles])


def bundle_folders(bento: Any) -> list[Path]:
    """Where the bundles of a BentoML Bento lie: in the Bento itself in a container, else in the model store."""
    import bentoml

    return [Path(bentoml.models.get(model.tag).path_of("bundle")) for model in bento.info.all_models]


def _store(bundle: "Bundle") -> str:
    """The tag of the bundle in BentoML's model store; the version is its content, so that the same one is stored once.

    Raises:
        BundleError: the copy in the store was changed.
    """
    import bentoml
    from bentoml.exceptions import NotFound

    from models.bundle import load

    tag = f"{_tag_name(bundle.manifest.name)}:{_version(bundle.folder)}"
    try:
        load(Path(bentoml.models.get(tag).path_of("bundle")))
    except NotFound:
        labels, metadata = {"method": bundle.manifest.method}, {"validation": bundle.manifest.validation}
        with bentoml.models.create(tag, labels=labels, metadata=metadata) as model:
            shutil.copytree(bundle.folder, model.path_of("bundle"))
    return tag


def _build(model_tags: list[str]) -> str:
    import bentoml

    with tempfile.TemporaryDirectory(prefix="overtile-build-") as name:
        context = Path(name)
        for root in _PACKAGES:
            shutil.copytree(_folder_of(root), context / root, ignore=shutil.ignore_patterns("__pycache__"))
        bento = bentoml.bentos.build(
            "service.app:Overtile",
            name=BENTO,
            build_ctx=str(context),
            include=["*"],
            description="Segments slides and volumes over HTTP. The routes are at /docs.",
            models=model_tags,
            # pinned to what the bundles were verified with; BentoML's own locking would ask the network
            python={"packages": [_pinned(requirement) for requirement in _REQUIREMENTS], "lock_packages": False},
        )
    return str(bento.tag)


def _folder_of(package: str) -> Path:
    """Where a package's files lie, in a checkout or in an installed copy."""
    return Path(str(importlib.resources.files(package)))


def _pinned(requirement: str) -> str:
    """`torch==2.13.0`, without the build that is installed here (`+cpu`)."""
    return f"{requirement}=={importlib.metadata.version(requirement).split('+')[0]}"


def _tag_name(name: str) -> str:
    """The bundle's name in the letters that BentoML takes; two that fall together differ in their version."""
    return name.lower()[:_TAG_LENGTH].rstrip("._-")


def _version(folder: Path) -> str:
    """Of the manifest, which holds the digests of all other files."""
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()[:_DIGEST_LENGTH]
