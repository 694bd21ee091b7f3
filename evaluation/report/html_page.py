"""Values and a template -> one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluation.report.number_text import FILTERS


def render_page(template: str, **values: Any) -> str:
    """The page as HTML; every name out of the data is escaped, and the templates forbid scripts and loads."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS, base64=_base64)
    return environment.get_template(template).render(values)


def write_page(html: str, path: Path) -> None:
    """Writes the page; folders that are missing are made.

    Raises:
        OSError: the file can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
