import ast
from pathlib import Path

from imaging.remarks import REMARKS, remark_text

CHECKOUT = Path(__file__).parents[2]
FOLDERS = ("imaging", "datasets", "inference", "service")


def codes_in(tree):
    """Return the text constants of statements that speak of warnings or remarks."""
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.Assign | ast.AugAssign | ast.Expr | ast.Return)]
    for statement in statements:
        if "warnings" in ast.unparse(statement) or "remarks" in ast.unparse(statement):
            yield from (node.value for node in ast.walk(statement) if isinstance(node, ast.Constant) and node.value in REMARKS)


def test_every_remark_is_used_and_in_the_documentation():
    files = [path for folder in FOLDERS for path in (CHECKOUT / folder).rglob("*.py") if path.name != "remarks.py"]
    used = {code for path in files for code in codes_in(ast.parse(path.read_text()))}
    assert used == set(REMARKS)


def test_a_remark_says_what_it_means():
    assert remark_text("single_frame") == "single_frame (a fourth axis of length 1 is left out, in the mask too)"
