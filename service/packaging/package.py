"""Bundles -> BentoML's model store and a Bento, the one thing that is shipped and served."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.packaging.model_store import BENTO

if TYPE_CHECKING:
    from models.bundle import Bundle
    from service.packaging.bento_parity import Trials

CARDS = "README.md"  # in the Bento; what BentoML shows of it

_TAG_LENGTH = 63  # BentoML's longest name
_DIGEST_LENGTH = 16


def package(bundle_folders: Sequence[Path], tell: Callable[[str], None] = lambda line: None) -> str:
    """Verifies the bundles, stores them as BentoML models, builds a Bento with all of them, and asks it for their samples.

    What was stored and built is deleted again unless the Bento, served, gives what training validated.

    Args:
        bundle_folders: of finished runs.
        tell: is called with lines for the user: how each model did, and where the model cards lie.

    Returns:
        The Bento's tag, `overtile:VERSION`.

    Raises:
        BundleError: a folder isn't a bundle, was changed, two are named alike, one gives values and no masks, or the Bento
            doesn't reproduce a bundle's sample.
    """
    bundles = _servable(bundle_folders)
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    import bentoml

    from service.packaging.bento_parity import check_bento, text_of

    with ExitStack() as undo:
        bento = _build([_store(bundle, undo) for bundle in bundles])
        undo.callback(bentoml.bentos.delete, bento.tag)
        trials = check_bento(bento)
        cards = _write_cards(bento, bundles, trials)
        undo.pop_all()
    for name, trial in trials.items():
        tell(text_of(name, trial))
    tell(f"model cards: {cards}")
    return str(bento.tag)


def _servable(folders: Sequence[Path]) -> "list[Bundle]":
    from models.bundle import load
    from service.packaging.servable import check_servable

    bundles = [load(folder) for folder in folders]
    check_servable(bundles)
    return bundles


def _store(bundle: "Bundle", undo: ExitStack) -> str:
    """The tag of the bundle in BentoML's model store; the version is its content, so that the same one is stored once.

    Args:
        bundle: loaded.
        undo: what takes a new model out of the store again.

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
        undo.callback(bentoml.models.delete, tag)
    return tag


def _build(model_tags: list[str]) -> Any:
    """A BentoML Bento."""
    import bentoml

    from service.packaging.bento_contents import copy_code, requirements
    from service.packaging.bento_parity import SERVICE

    with tempfile.TemporaryDirectory(prefix="overtile-build-") as name:
        copy_code(Path(name))
        return bentoml.bentos.build(
            f"{SERVICE}:Overtile",
            name=BENTO,
            build_ctx=name,
            include=["*"],
            description="Segments slides and volumes over HTTP. The routes are at /docs.",
            models=model_tags,
            # BentoML's own locking would ask the network
            python={"packages": requirements(), "lock_packages": False},
        )


def _write_cards(bento: Any, bundles: "Sequence[Bundle]", trials: "Trials") -> Path:
    """The file that they were written into: now that it is known how the models do, one after the other."""
    from service.packaging.model_card import model_card

    path = Path(bento.path_of(CARDS))
    cards = [model_card(bundle.manifest, bundle.config, trials[bundle.manifest.name]) for bundle in bundles]
    path.write_text("\n".join(cards))
    return path


def _tag_name(name: str) -> str:
    """The bundle's name in the letters that BentoML takes; two that fall together differ in their version."""
    return name.lower()[:_TAG_LENGTH].rstrip("._-")


def _version(folder: Path) -> str:
    """Of the manifest, which holds the digests of all other files."""
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()[:_DIGEST_LENGTH]
