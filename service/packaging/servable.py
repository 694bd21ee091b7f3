"""Which bundles can be served together."""

from collections.abc import Sequence

from models.bundle import Bundle
from models.errors import BundleError
from models.heads import check_gives_masks


def check_servable(bundles: Sequence[Bundle]) -> None:
    """Nothing, when there is at least one bundle, all give masks, and their names tell them apart.

    Raises:
        BundleError: otherwise.
    """
    for bundle in bundles:
        check_gives_masks(bundle.config)
    names = [bundle.manifest.name for bundle in bundles]
    if not names:
        raise BundleError("no bundle; give the bundle/ folder of at least one finished run")
    for name in names:
        if names.count(name) > 1:
            raise BundleError(f"two bundles are named {name}; train one of them with another run.name")
