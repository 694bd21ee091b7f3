"""The tree's layout: no circles of files or of subfolders, and folders that can be taken in at a glance."""

import ast
from collections import Counter, defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("configs", "datasets", "disk", "evaluation", "imaging", "inference", "models", "service", "training", "transforms")
MOST_FILES = 17  # in a folder, `__init__.py` included
FILES = sorted(path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
MODULES = {".".join((path.parent if path.name == "__init__.py" else path.with_suffix("")).parts): path for path in FILES}


def imports_of(file: Path) -> set[Path]:
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {MODULES[name] for name in names if name in MODULES} - {file}


def circle_of(graph: dict[Path, set[Path]]) -> list[Path]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def box_of(file: Path) -> Path:
    """A subfolder is one box; a file directly in a top folder is its own."""
    return file.parent if len(file.parts) > 2 else file


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle_of({file: imports_of(file) for file in FILES}) == []


def test_no_subfolders_import_each_other_in_a_circle() -> None:
    boxes: dict[Path, set[Path]] = defaultdict(set)
    for file in FILES:
        boxes[box_of(file)] |= {box_of(other) for other in imports_of(file)} - {box_of(file)}
    assert circle_of(dict(boxes)) == []


def test_a_circle_is_found() -> None:
    first, second = Path("a/x.py"), Path("a/y.py")
    assert set(circle_of({first: {second}, second: {first}})) == {first, second}


def test_no_folder_holds_more_files_than_can_be_taken_in() -> None:
    counts = Counter(file.parent for file in FILES)
    assert {str(folder): count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_tests_have_names_of_their_own() -> None:
    """Check that no two files of tests share a name: pytest imports them by it."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert {name for name in names if names.count(name) > 1} == set()
