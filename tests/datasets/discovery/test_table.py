"""Tables of cases as people save them, through the real command line: read like the plain one, or refused with a word."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from configs.schema import load
from datasets.cases import read_cases
from datasets.discovery.table import read_table
from imaging.errors import DataError
from overtile import app
from tests.phantom import write_slide_dataset

PLAIN = ["case,image,reference,group,split"] + [
    f"p{number},images/case{number:03d}.png,references/case{number:03d}.png,g{number},{'val' if number == 3 else 'train'}"
    for number in range(4)
]
EXTRA = [f"{line},{cells}" for line, cells in zip(PLAIN, ("Age,stain", "61,PAS", "58,PAS", "44,HE", "39,HE"), strict=True)]


def inspect(*words: object) -> Result:
    return CliRunner().invoke(app, ["inspect", *map(str, words)])


def words_of(result: Result) -> str:
    return re.sub(r"\s+", " ", result.stderr)


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide_dataset(tmp_path_factory.mktemp("table") / "slides", cases=4, shape=(48, 60)).parent


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "cases.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\r\n".join(PLAIN).replace(",", ";"), id="semicolons"),
        pytest.param("sep=;\r\n" + "\r\n".join(PLAIN).replace(",", ";"), id="Excel's own line"),
        pytest.param("\n".join(PLAIN).replace(",", "\t"), id="tabs"),
        pytest.param("\n".join(PLAIN).replace(",", ", "), id="spaces"),
        pytest.param("\r\n".join(f"{line},," for line in PLAIN) + "\r\n,,,,,,\r\n\r\n", id="empty rows and columns"),
        pytest.param("\n".join(PLAIN).replace("images/", "images\\").replace("references/", "references\\"), id="backslashes"),
        pytest.param("\n".join([PLAIN[0].title(), *PLAIN[1:]]), id="capitals in the header"),
        pytest.param("\n".join(PLAIN).replace("train", "Train").replace("val", "VALIDATION"), id="capitals in splits"),
        pytest.param("\n".join(f"{number or ''},{line}" for number, line in enumerate(PLAIN)), id="an index, as of pandas"),
        pytest.param("\r\n".join(PLAIN).encode("utf-16"), id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf" + "\r".join(PLAIN).encode(), id="a mark and the lines of an old Mac"),
    ],
)
def test_a_table_as_people_save_it(slides: Path, text: str | bytes) -> None:
    write(slides, "\n".join(PLAIN))
    plain = read_cases(slides)
    write(slides, text)
    cases = read_cases(slides)
    assert [(case.name, case.images, case.reference, case.group, case.split) for case in cases] == [
        (case.name, case.images, case.reference, case.group, case.split) for case in plain
    ]
    result = inspect(slides)
    assert result.exit_code == 0, result.stderr
    assert "Cases 4 (3 train, 1 val) Patients 4 groups" in words_of(result)


def test_windows_encoding_is_said(slides: Path) -> None:
    write(slides, "\n".join(PLAIN).replace("g1", "M\u00fcller").encode("cp1252"))
    assert read_cases(slides)[1].group == "M\u00fcller"
    assert "note: cases.csv isn't UTF-8 and is read as Windows-1252; if accents are wrong" in words_of(inspect(slides))


def test_other_columns_are_kept_and_listed(slides: Path) -> None:
    write(slides, "\n".join(EXTRA))
    assert read_cases(slides)[2].metadata == {"Age": "44", "stain": "HE"}
    output = words_of(inspect(slides))
    assert "Column Age 61 (1), 58 (1), 44 (1), 39 (1) Column stain PAS (2), HE (2)" in output
    assert "Patients 4 groups" in output


def test_other_columns_as_group_and_label(slides: Path, tmp_path: Path) -> None:
    write(slides, "\n".join(line.rsplit(",", 4)[0] + line[line.rindex(",", 0, line.rindex(",")) :] for line in EXTRA))
    result = inspect(slides, "--group-column", "stain", "--label-column", "Age")
    assert "Patients 2 groups Image labels 61 (1), 58 (1), 44 (1), 39 (1)" in words_of(result)
    config = tmp_path / "config.yaml"
    options = ["--memory", "1GB", "--group-column", "Age", "--label-column", "stain"]
    planned = CliRunner().invoke(app, ["plan", str(slides), "-o", str(config), *options])
    assert planned.exit_code == 0, planned.stderr
    data = load(config).data
    assert (data.group_column, data.label_column) == ("Age", "stain")
    assert load(config).image_label.classes == ("HE", "PAS")
    assert [case.label for case in read_cases(slides, data)] == ["PAS", "PAS", "HE", "HE"]
    assert [case.group for case in read_cases(slides, data)] == ["61", "58", "44", "39"]


def test_a_column_that_is_not_there(slides: Path) -> None:
    write(slides, "\n".join(EXTRA))
    result = inspect(slides, "--group-column", "patient")
    assert result.exit_code == 3
    assert "column 'patient' is missing; there are Age, stain" in words_of(result)


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("case,image,refrence", "reference"),
        ("case,image,spilt", "split"),
        ("case,image,mask", "reference"),
        ("case,image,axis", "axes"),
    ],
)
def test_a_misspelt_column_is_refused(tmp_path: Path, header: str, column: str) -> None:
    with pytest.raises(DataError, match=f"is unknown; if '{column}' is meant, rename it") as caught:
        read_table(write(tmp_path, f"{header}\na,b,c\n"))
    assert caught.value.code == "cases_invalid"


@pytest.mark.parametrize("name", ["age", "stain", "grade", "image_id", "patient", "site", "scanner", "sex", "stage", "fold"])
def test_other_names_are_no_misspellings(tmp_path: Path, name: str) -> None:
    (row,) = read_table(write(tmp_path, f"case,image,{name}\na,b,c\n")).rows
    assert row.metadata == {name: "c"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the table is empty; columns are case, image"),
        (
            "case;image;reference\na;x.png;y.png;z.png\n",
            "line 2: not as many cells as there are columns; put quotes around a cell",
        ),
        ("case,image,\na,x.png,7\n", "column 3 has values but no name; name it, or remove it"),
        ("Case,image,case\na,x.png,b\n", "column 'case' comes twice"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        read_table(write(tmp_path, text))


def test_short_rows_decimal_commas_and_axes(tmp_path: Path) -> None:
    table = write(tmp_path, 'case;image;spacing_um;axes\na;x.tif;"0,5";zyx\nb;"y.tif;z.tif"\n')
    first, second = read_table(table).rows
    assert (first.spacing_um, first.axes, first.images) == ("0.5", "ZYX", ("x.tif",))
    assert (second.spacing_um, second.axes, second.images) == ("", "", ("y.tif", "z.tif"))


def test_a_name_with_a_backslash_is_read_as_it_is_where_it_exists(tmp_path: Path) -> None:
    (tmp_path / "a\\b.png").write_bytes(b"x")
    rows = read_table(write(tmp_path, "case,image\na,a\\b.png\nb,c\\d.png\n")).rows
    assert [row.images for row in rows] == [("a\\b.png",), ("c/d.png",)]
