"""What these tests share with those of the service: its small bundles and its servers."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "service"))
