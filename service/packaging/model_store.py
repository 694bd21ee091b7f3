"""BentoML's model store: where the bundles lie that a server serves."""

from pathlib import Path
from typing import Any

BENTO = "overtile"


def bundle_folders(bento: Any) -> dict[str, Path]:
    """Tag -> bundle of each model of a BentoML Bento: in the Bento itself in a container, else in the model store."""
    import bentoml

    return {str(model.tag): Path(bentoml.models.get(model.tag).path_of("bundle")) for model in bento.info.all_models}


def bundle_of(tag: str) -> Path | None:
    """The bundle of a model; None where the store has none of that tag."""
    import bentoml
    from bentoml.exceptions import BentoMLException

    try:
        return Path(bentoml.models.get(tag).path_of("bundle"))
    except (BentoMLException, ValueError):
        return None
