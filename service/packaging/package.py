"""Packaging of bundles: each becomes a BentoML model, and all together a Bento, which is what is deployed and served."""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from disk.user_folders import choosable_by
from models.errors import BundleError
from service.packaging.model_store import BENTO, STORE_VARIABLE, choose_model_store

if TYPE_CHECKING:
    from models.bundle import Bundle

CARDS = "README.md"  # file in the Bento that BentoML displays

_MAX_NAME_LENGTH = 63  # of a BentoML tag
_DIGEST_LENGTH = 16


def package(bundle_folders: Sequence[Path], tell: Callable[[str], None] = lambda line: None) -> str:
    """Verify the bundles, store them as BentoML models, build a Bento with all of them, and run it on their samples.

    The new models and the Bento are deleted again unless the Bento reproduces what training validated.

    Args:
        bundle_folders: bundles of finished runs.
        tell: is called with lines for the user: the check of each model, and the path of the model cards.

    Returns:
        Tag of the Bento, `overtile:VERSION`.

    Raises:
        BundleError: a folder isn't a bundle, was changed, two are named alike, one gives values and no masks, or the Bento
            doesn't reproduce a bundle's sample.
    """
    from models.bundle import load

    bundles = [load(folder) for folder in bundle_folders]
    check_servable(bundles)
    store = choose_model_store()
    with choosable_by(STORE_VARIABLE, store):
        store.mkdir(parents=True, exist_ok=True)
    import bentoml

    from service.packaging.bento_parity import check_bento, text_of
    from service.packaging.model_card import model_card

    with ExitStack() as undo:
        bento = _build([_store(bundle, undo) for bundle in bundles])
        undo.callback(bentoml.bentos.delete, bento.tag)
        _copy_mode_of_parent(Path(bento.path))
        results = check_bento(bento)
        cards = [
            model_card(bundle.manifest, bundle.config, parity=results[bundle.manifest.name], metrics=bundle.metrics)
            for bundle in bundles
        ]
        path = Path(bento.path_of(CARDS))
        path.write_text("\n".join(cards))
        undo.pop_all()
    for name, parity in results.items():
        tell(text_of(name, parity))
    tell(f"model cards: {path}")
    return str(bento.tag)


def check_servable(bundles: "Sequence[Bundle]") -> None:
    """Check that there is at least one bundle, that all give masks, and that their names tell them apart.

    Raises:
        BundleError: otherwise.
    """
    from models.heads import check_gives_masks

    for bundle in bundles:
        check_gives_masks(bundle.config)
    names = [bundle.manifest.name for bundle in bundles]
    if not names:
        raise BundleError("no bundle; give the bundle/ folder of at least one finished run")
    for name in names:
        if names.count(name) > 1:
            raise BundleError(f"two bundles are named {name}; train one of them with another run.name")


def _store(bundle: "Bundle", undo: ExitStack) -> str:
    """Store the bundle as a BentoML model, unless the store has it, and return its tag.

    The version is a digest of the content, so that the same bundle is stored once.

    Args:
        bundle: bundle that is stored.
        undo: gets a callback that deletes a new model again.

    Raises:
        BundleError: the copy in the store was changed.
    """
    import bentoml
    from bentoml.exceptions import NotFound

    from models.bundle import load
    from service.packaging.bento_contents import copy_content

    # in the characters that BentoML takes; two names that become equal differ in their version
    name = bundle.manifest.name.lower()[:_MAX_NAME_LENGTH].rstrip("._-")
    # the manifest holds the digests of all other files
    version = hashlib.sha256((bundle.folder / "manifest.json").read_bytes()).hexdigest()[:_DIGEST_LENGTH]
    tag = f"{name}:{version}"
    try:
        load(Path(bentoml.models.get(tag).path_of("bundle")))
    except NotFound:
        labels, metadata = {"method": bundle.manifest.method}, {"validation": bundle.manifest.validation}
        with (
            choosable_by(STORE_VARIABLE, choose_model_store()),
            bentoml.models.create(tag, labels=labels, metadata=metadata) as model,
        ):
            copy_content(bundle.folder, Path(model.path_of("bundle")))
        undo.callback(bentoml.models.delete, tag)
        _copy_mode_of_parent(Path(bentoml.models.get(tag).path))
    return tag


def _copy_mode_of_parent(folder: Path) -> None:
    """Give a new folder its parent's mode, as BentoML makes one that no other user, such as the server's, could read."""
    folder.chmod(folder.parent.stat().st_mode & 0o777)


def _build(model_tags: list[str]) -> Any:
    """Build a BentoML Bento from the models in the store."""
    import bentoml

    from service.packaging.bento_contents import copy_code, requirements
    from service.packaging.bento_parity import SERVICE

    with tempfile.TemporaryDirectory(prefix="overtile-build-") as name:
        copy_code(Path(name))
        with choosable_by(STORE_VARIABLE, choose_model_store()):
            return bentoml.bentos.build(
                f"{SERVICE}:Overtile",
                name=BENTO,
                build_ctx=name,
                include=["*"],
                description="Segments slides and volumes over HTTP. The routes are at /docs.",
                models=model_tags,
                # BentoML's own locking needs the network
                python={"packages": requirements(), "lock_packages": False},
            )
