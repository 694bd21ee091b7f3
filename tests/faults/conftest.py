"""The servers of the service's own tests, for what goes wrong around them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "service"))

from tests.service.conftest import bento, bento_home, bundles, client, environment, picture, server

__all__ = ["bento", "bento_home", "bundles", "client", "environment", "picture", "server"]
