"""HTML pages: rendering for all pages, and their script.

A page is a single file that loads nothing else: no font or picture. Only the script of this folder may run, by its hash.
"""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluation.figures.palette import DARK_METHODS, LIGHT_METHODS
from evaluation.number_text import FILTERS


def render_page(template: str, **values: Any) -> str:
    """Render a template of this folder as HTML; values are escaped, and the templates forbid scripts and loads."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS, base64=lambda content: base64.b64encode(content).decode("ascii"))
    return environment.get_template(template).render(
        script=load_script(), light_methods=LIGHT_METHODS, dark_methods=DARK_METHODS, **values
    )


@dataclass(frozen=True)
class Script:
    """Script of a page: its text, and the source expression that allows it in a Content-Security-Policy."""

    text: str
    policy: str


def load_script() -> Script:
    """Load the script that sorts tables and opens cases."""
    text = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return Script(text, f"sha256-{digest}")


def write_page(html: str, path: Path) -> None:
    """Write the page, and create missing folders.

    Raises:
        OSError: the file can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8")
