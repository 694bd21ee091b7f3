"""The documentation follows the code: its links, commands, options, config keys and paths exist."""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic.fields import FieldInfo

from configs.network_sections import SlidingWindowSection, UNetSection
from configs.schema import Config
from configs.sections import Section
from imaging.remarks import REMARKS
from overtile import app
from service.limits import AccessSettings, ServiceLimits, setting_of

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "docker/README.md", ROOT / "benchmarks/README.md"])
COMMAND_PAGES = {  # the page that describes every option of a command
    "demo": "install.md",
    "inspect": "data.md",
    "cases": "data.md",
    "plan": "train.md",
    "train": "train.md",
    "tune": "many_runs.md",
    "check": "train.md",
    "find-rate": "train.md",
    "pretrain": "train.md",
    "runs": "train.md",
    "study": "studies.md",
    "predict": "segment.md",
    "evaluate": "evaluate.md",
    "compare": "compare.md",
    "package": "serve.md",
    "serve": "serve.md",
    "keys": "serve.md",
    "client": "serve.md",
}
COMMAND = re.compile(r"(?:^|[(;&] ?| -- |-m |--rm |[A-Z_]+=\S+ |\.venv/bin/)overtile ([a-z-].*)")
GENERATED = {"docker/secrets/"}
FOLDERS = ("configs", "datasets", "disk", "evaluation", "imaging", "inference", "models", "service", "training", "transforms")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchor_of(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", text_of(page))
    broken = []
    for target in targets:
        path, _, anchor = target.partition("#")
        if "://" in target or path.startswith("mailto:"):
            continue
        file = (page.parent / path).resolve() if path else page
        headings = re.findall(r"^#+ (.+)$", text_of(file), re.MULTILINE) if anchor and file.is_file() else []
        if not file.exists() or (anchor and anchor not in map(anchor_of, headings)):
            broken.append(target)
    assert broken == []


def test_the_index_lists_every_page() -> None:
    links = set(re.findall(r"\]\((\w+\.md)\)", text_of(ROOT / "docs/README.md")))
    assert links == {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}


def code_lines(page: Path) -> Iterator[str]:
    """Yield the lines of code blocks, continued lines joined, and the code between backticks in the text."""
    lines, fenced = iter(re.sub(r"\\\n\s*", " ", text_of(page)).splitlines()), False
    for line in lines:
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            code = line.strip()
            while code.count("'") % 2 and "#" not in code and not fenced:
                code += f" {next(lines).strip()}"
            yield code
        else:
            yield from re.findall(r"`([^`]+)`", line)


def commands_of(page: Path) -> Iterator[list[str]]:
    """Yield the words after `overtile` of each command on the page."""
    for line in code_lines(page):
        if match := COMMAND.search(line):
            words = shlex.shlex(match[1], posix=True, punctuation_chars="|;&<>()")
            words.whitespace_split, words.commenters = True, "#"
            command = []
            for word in words:
                if word[0] in "|;&<>()":
                    break
                command.append(word)
            yield command


@cache
def command_tree() -> Any:
    return typer.main.get_command(app)


def options_of(command: Any) -> set[str]:
    return {option for each in command.params for option in (*each.opts, *each.secondary_opts) if option.startswith("-")}


def problem_of(words: list[str]) -> str | None:
    command, rest = command_tree(), list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    allowed = options_of(command) | {"--help"}
    unknown = [word for word in rest if re.match(r"--?[a-zA-Z]", word) and word.partition("=")[0] not in allowed]
    return f"no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_their_options_exist(page: Path) -> None:
    problems = {" ".join(words): problem_of(words) for words in commands_of(page)}
    assert {command: problem for command, problem in problems.items() if problem} == {}


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert sum(len(list(commands_of(page))) for page in PAGES) > 100
    assert problem_of(["predict", "a.png", "-b", "bundle", "--tissue"]) is None
    assert problem_of(["predict", "a.png", "--tissues"]) == "no option --tissues"
    assert problem_of(["client", "send"]) == "no command send"


def leaf_commands() -> Iterator[tuple[str, Any]]:
    for name, command in command_tree().commands.items():
        if hasattr(command, "commands"):
            yield from ((f"{name} {child}", each) for child, each in command.commands.items())
        else:
            yield name, command


@pytest.mark.parametrize(("name", "command"), list(leaf_commands()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_option_is_described(name: str, command: Any) -> None:
    text = text_of(ROOT / "docs" / COMMAND_PAGES[name.split()[0]])
    assert f"overtile {name}" in text
    negative = {option for each in command.params for option in each.secondary_opts}
    long_options = {option for option in options_of(command) if option.startswith("--")} - negative
    assert {option for option in long_options if not re.search(rf"{option}\b", text)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_overrides_name_keys_of_the_config(page: Path) -> None:
    keys = {f"model.{key}" for section in (UNetSection, SlidingWindowSection) for key in section.model_fields}
    keys |= {f"{name}.{key}" for name, field in Config.model_fields.items() for key in keys_of(field)}
    names = "|".join(Config.model_fields)
    used = {match for line in code_lines(page) for match in re.findall(rf"(?<![\w./])((?:{names})\.\w+)=", line)}
    assert used - keys == set()


def keys_of(field: FieldInfo) -> tuple[str, ...]:
    section = field.annotation
    return tuple(section.model_fields) if isinstance(section, type) and issubclass(section, Section) else ()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_in_the_text_exist(page: Path) -> None:
    names = "|".join((*FOLDERS, "benchmarks", "docker", "docs", "tests"))
    paths = re.findall(rf"`((?:{names})/[\w./-]*)`", text_of(page))
    assert {path for path in paths if path not in GENERATED and not (ROOT / path).exists()} == set()


def test_modules_in_the_tables_of_folders_exist() -> None:
    missing = []
    for folders, content in re.findall(r"^\| `([\w/{},]+/)` \| (.+) \|$", text_of(ROOT / "docs/architecture.md"), re.MULTILINE):
        roots = [ROOT / folder for folder in expand(folders)]
        names = {name for root in roots for path in root.rglob("*") for name in (path.name, path.stem)}
        code = "\n".join(text_of(file) for root in roots for file in root.rglob("*.py"))
        words = re.findall(r"`(\w+)`", content)
        missing += [f"{folders}: {word}" for word in words if word not in names and not re.search(rf"\b{word}\b", code)]
    assert missing == []


def message_parts() -> set[str]:
    """Return the constant strings of the code, among them the parts of its messages."""
    files = [*ROOT.glob("*.py"), *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))]
    nodes = (node for file in files for node in ast.walk(ast.parse(text_of(file))))
    constants = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return constants | {text_of(ROOT / "Makefile")}


@pytest.mark.parametrize("page", ["troubleshooting.md", "compare.md"])
def test_messages_that_are_quoted_exist(page: str) -> None:
    """Numbers and `...` stand for what a message is filled with."""
    quotes = [" ".join(quote.split()) for quote in re.findall(r'"([^"]*)"', text_of(ROOT / "docs" / page))]
    parts = {part.strip(" .,:;?()") for quote in quotes for part in re.split(r"\.\.\.|\d+", quote)}
    messages = message_parts()
    assert {part for part in parts if len(part) >= 8 and not any(part in message for message in messages)} == set()


@pytest.mark.parametrize("page", ["architecture.md", "develop.md", "service.md"])
def test_names_of_classes_and_constants_exist(page: str) -> None:
    names = set(re.findall(r"`(_?[A-Z]\w*[a-z_]\w*|[A-Z]{4,})`", text_of(ROOT / "docs" / page)))
    names -= {name for name in names if name.startswith("OVERTILE_") or name == "BENTOML_HOME"}
    code = "\n".join(text_of(file) for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
    assert {name for name in names if not re.search(rf"\b{name}\b", code)} == {"STEM"} & names


def expand(folders: str) -> list[str]:
    """Return the paths that a shell makes of `a/{b,c}/`."""
    match = re.search(r"{([\w,]+)}", folders)
    return [folders.replace(match[0], name) for name in match[1].split(",")] if match else [folders]


def test_modules_in_the_table_of_the_service_exist() -> None:
    table = text_of(ROOT / "docs/service.md").split("## Processes")[1].split("## Jobs")[0]
    missing = []
    for first, content in re.findall(r"^\| (`.+`) \| (.+) \|$", table, re.MULTILINE):
        paths = re.findall(r"`([\w./]+)`", first)
        folder = ROOT / paths[0] if paths[0].endswith("/") else (ROOT / paths[0]).parent
        missing += [path for path in paths if not (ROOT / path).exists() and not (folder / path).exists()]
        if paths[0].endswith("/"):
            modules = re.findall(r"`(\w+)`", content)
            missing += [f"{paths[0]}{name}" for name in modules if not (folder / f"{name}.py").exists()]
    assert missing == []


def test_answers_to_where_things_are_found_exist() -> None:
    table = text_of(ROOT / "docs/architecture.md").split("## Where to find things")[1].split("\n## ")[0]
    places = re.findall(r"\| ((?:`[\w./]+` / )*`[\w.]+`) \|", table)
    assert len(places) >= 10
    for place in places:
        *folders, last = re.findall(r"`([\w./]+)`", place)
        module, _, name = last.partition(".")
        folder = ROOT.joinpath(*folders)
        assert (folder / module).is_dir() or (folder / f"{module}.py").is_file(), place
        assert not name or re.search(rf"^(async )?(def|class) {name}\b", text_of(folder / f"{module}.py"), re.MULTILINE), place


def codes_in(folder: str, classes: set[str]) -> set[str]:
    """Return the codes with which a folder's code makes errors and problems."""
    calls = (
        node
        for file in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(text_of(file)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes
    )
    constants = {each.value for call in calls for each in call.args[:2] if isinstance(each, ast.Constant)}
    return {value for value in constants if isinstance(value, str) and re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", value)}


def test_every_problem_of_a_data_set_is_explained() -> None:
    codes = codes_in("datasets", {"Problem", "DataError", "BrokenImage", "ImageTooLarge", "UnsuitableImage"})
    assert {"labels_unknown", "image_twice"} <= codes
    assert {code for code in codes if f"`{code}`" not in text_of(ROOT / "docs/data.md")} == {
        "dimension_not_supported",
        "no_inputs",  # of inputs to segment; in segment.md
        "same_stem",
    }


def test_every_remark_is_explained() -> None:
    table = text_of(ROOT / "docs/segment.md").split("| remark |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \| .+ \|$", table, re.MULTILINE)) == set(REMARKS)


def test_every_setting_of_the_server_is_listed_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(OVERTILE_\w+)` \| (\d*) ?\| ", text_of(ROOT / "docs/service.md"), re.MULTILINE))
    settings = {setting_of(field.name): field.default for limits in (ServiceLimits, AccessSettings) for field in fields(limits)}
    assert rows == {name: str(default) if isinstance(default, int) else "" for name, default in settings.items()}


def test_citation_names_this_version() -> None:
    citation = yaml.safe_load(text_of(ROOT / "CITATION.cff"))
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["cff-version"], citation["title"], citation["type"]) == ("1.2.0", "Overtile", "software")
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert all(set(author) == {"name"} for author in citation["authors"])
