"""The codes of refusals are a closed vocabulary, which docs/accepted.md lists."""

import ast
import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
ERRORS = {"BrokenImage", "DataError", "ImageTooLarge", "UnsuitableImage", "UnsupportedFormat"}


def codes_in(tree):
    """Return the codes of the errors that are created."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS)
    return {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}


def test_every_code_of_a_reader_is_in_the_documentation():
    page = (CHECKOUT / "docs/accepted.md").read_text().partition("## All codes")[2]
    raised = set().union(*(codes_in(ast.parse(path.read_text())) for path in (CHECKOUT / "imaging").rglob("*.py")))
    assert raised == set(re.findall(r"^\| `(\w+)` ", page, re.MULTILINE))
