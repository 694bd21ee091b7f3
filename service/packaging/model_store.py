"""Bundles in BentoML's model store, from which a server loads them."""

import os
from pathlib import Path
from typing import Any

from disk.user_folders import user_folder

BENTO = "overtile"
STORE_VARIABLE = "BENTOML_HOME"


def choose_model_store() -> Path:
    """Set the variables that BentoML reads at its import, and return the folder of its stores, ~/bentoml by default.

    BentoML itself would make a folder named ~ for a user without a home.

    Raises:
        FileNotFoundError: BENTOML_HOME isn't set, and the user has no home.
    """
    folder = user_folder(os.environ, STORE_VARIABLE, "bentoml")
    os.environ |= {"BENTOML_DO_NOT_TRACK": "True", STORE_VARIABLE: str(folder)}
    return folder


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
