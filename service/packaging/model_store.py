"""Bundles in BentoML's model store, from which a server loads them."""

from pathlib import Path
from typing import Any

BENTO = "overtile"


def bundle_folders(bento: Any) -> dict[str, Path]:
    """Return the bundle of each model of a BentoML Bento, by the model's tag.

    In a container they lie in the Bento itself, else in the model store.
    """
    import bentoml

    return {str(model.tag): Path(bentoml.models.get(model.tag).path_of("bundle")) for model in bento.info.all_models}


def bundle_of(tag: str) -> Path | None:
    """Return the bundle of a model, or None where the store has no model of that tag."""
    import bentoml
    from bentoml.exceptions import BentoMLException

    try:
        return Path(bentoml.models.get(tag).path_of("bundle"))
    except (BentoMLException, ValueError):
        return None
