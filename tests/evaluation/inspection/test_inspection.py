"""`overtile inspect`: what it prints, its exit code, and a page that no content of the data can break."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from configs import schema
from evaluation.inspection.data_summary import InspectionOptions, inspect_dataset, summary_rows
from evaluation.inspection.examples import MAX_EXAMPLES, draw_examples, draw_outlines, select_examples
from evaluation.inspection.page import render_inspection, write_inspection
from evaluation.report.html_page import load_script
from overtile import app
from tests.phantom import write_slide_dataset, write_volume_dataset

HOSTILE = "<script>alert(1)</script></style>\"'><img src=x onerror=alert(1)>"


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["inspect", *map(str, words)])


def words_of(result: Result) -> str:
    return re.sub(r"\s+", " ", result.stderr)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    return write_volume_dataset(tmp_path / "volumes", cases=6, shape=(8, 12, 14)).parent


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    return write_slide_dataset(tmp_path / "slides", cases=6, shape=(48, 60)).parent


def test_sound_data(volumes: Path, tmp_path: Path) -> None:
    result = run(volumes, "-o", tmp_path / "new/page.html")
    assert result.exit_code == 0, result.stderr
    output = words_of(result)
    assert "Cases 6 (1 test, 4 train, 1 val)" in output
    assert "Images 3D, 1 channel, float32" in output
    assert "Size 8 \N{MULTIPLICATION SIGN} 12 \N{MULTIPLICATION SIGN} 14" in output
    assert "Spacing 1 \N{MULTIPLICATION SIGN} 1 \N{MULTIPLICATION SIGN} 1 mm" in output
    assert "Class 2 label 2," in output
    assert "in 6 of 6 references" in output
    assert "note: there are no groups, so each case counts as a patient" in output
    assert "problem: " not in output
    assert output.endswith(f"No problems found Page: {tmp_path / 'new/page.html'} ")
    assert (tmp_path / "new/page.html").stat().st_size > 10_000


def test_problems_end_with_3(slides: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(slides / "references/case001.png")
    result = run(slides)
    assert result.exit_code == 3
    assert (
        "problem: case case001, references/case001.png: reference (9, 9) has another shape than its image (48, 60); "
        "export it on the image's own grid [reference_shape] 1 problem must be fixed before training"
    ) in words_of(result)


def test_a_problem_of_many_cases_is_told_once(slides: Path, tmp_path: Path) -> None:
    for number in range(1, 6):
        Image.fromarray(np.ones((9, 9 + number), np.uint8)).save(slides / f"references/case00{number}.png")
    result = run(slides, "-o", tmp_path / "page.html")
    assert result.exit_code == 3
    assert words_of(result).count("problem: ") == 1
    assert (
        "problem: in 5 of 6 cases (case001, case002, case003, case004, case005), for example case case001, "
        "references/case001.png: reference (9, 10) has another shape than its image (48, 60); export it on the image's own "
        "grid [reference_shape] 1 problem must be fixed before training"
    ) in words_of(result)
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<summary>5 of 6 cases</summary><bdi>case001, case002, case003, case004, case005</bdi>" in html
    assert html.count("<code>reference_shape</code>") == 1
    assert html.count('class="has-problems">') == 5


def test_no_data_ends_with_3_and_a_bad_config_with_2(tmp_path: Path) -> None:
    assert "no data set is recognised. It holds no images; give the folder that holds them" in run(tmp_path).stderr
    assert run(tmp_path).exit_code == 3
    assert run(tmp_path, "--config", tmp_path / "none.yaml").exit_code == 2


def test_a_config_says_what_is_meant(volumes: Path) -> None:
    assert run(volumes, "--config", "configs/histology_unet.yaml").exit_code == 3
    config = schema.load(Path("configs/mri_unet.yaml"))
    inspection = inspect_dataset(volumes, InspectionOptions(config))
    assert inspection.examination.errors == ()
    assert [share.name for share in inspection.classes] == [section.name for section in config.data.classes]
    assert inspection.colours == tuple(section.colour for section in config.data.classes)


def test_a_number_of_classes(volumes: Path) -> None:
    assert run(volumes, "--classes", 3).exit_code == 0
    result = run(volumes, "--classes", 2)
    assert result.exit_code == 3
    assert result.stderr.count("[labels_unknown]") == 1
    assert "problem: in 6 of 6 cases, for example case case000, references/case000.nii.gz: reference holds 2 (" in result.stderr
    assert "1 problem must be fixed before training" in words_of(result)


def test_folds_are_drawn_where_there_are_no_splits(slides: Path) -> None:
    table = slides / "cases.csv"
    table.write_text("".join(f"{line.rsplit(',', 1)[0]}\n" for line in table.read_text().splitlines()))
    inspection = inspect_dataset(slides, InspectionOptions(folds=3, seed=4))
    assert (inspection.fold_count, inspection.seed) == (3, 4)
    assert summary_rows(inspection)[0] == ("Cases", "6 (3 folds of 2, drawn with seed 4)")
    assert inspect_dataset(slides, InspectionOptions(folds=3, seed=4)).splits == inspection.splits
    assert "drawn with seed 4" in render_inspection(inspection)
    Image.open(slides / "images/case000.png").save(slides / "images/case001.png")
    codes = {
        problem.code: problem.severity
        for seed in range(9)
        for problem in inspect_dataset(slides, InspectionOptions(seed=seed)).examination.errors
    }
    assert codes == {"image_twice": "error"}


def test_groups_are_counted(slides: Path) -> None:
    table = slides / "cases.csv"
    lines = table.read_text().splitlines()
    table.write_text(
        "\n".join(f"{line},{'group' if number == 0 else 'p' * (number == 1)}" for number, line in enumerate(lines))
    )
    assert dict(summary_rows(inspect_dataset(slides, InspectionOptions())))["Patients"] == "1 group and 5 cases without one"


def test_the_page(volumes: Path, tmp_path: Path) -> None:
    (volumes / "references/case001.nii.gz").write_bytes(b"broken")
    inspection = inspect_dataset(volumes, InspectionOptions())
    write_inspection(inspection, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "1 problem must be fixed before training." in html
    assert "<code>unsupported_format</code>" in html
    assert "; nothing outlined" in html
    assert html.count("<figure>") == 6
    policy = (
        f"img-src data:; style-src 'unsafe-inline'; script-src '{load_script().policy}'; base-uri 'none'; form-action 'none'"
    )
    assert f"default-src 'none'; {policy}" in html
    assert re.search(r"https?://|url\(|@import|javascript:", html) is None
    assert html.count("<script") == html.count(f"<script>{load_script().text}</script>") == 1


def test_hostile_names_are_escaped(slides: Path) -> None:
    table = slides / "cases.csv"
    quoted = '"' + HOSTILE.replace('"', '""') + '"'
    table.write_text(table.read_text().replace("case000,", f"{quoted},").replace("case001,", "=1+1,"))
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(slides / "references/case000.png")
    html = render_inspection(inspect_dataset(slides, InspectionOptions()))
    assert html.count("<script") == 1
    assert "onerror=alert(1)&gt;" in html
    assert html.count("<style>") == html.count("</style>") == 1
    assert "<bdi>=1+1</bdi>" in html


def test_data_of_which_nothing_can_be_read(slides: Path) -> None:
    for path in slides.glob("images/*"):
        path.write_bytes(b"broken")
    inspection = inspect_dataset(slides, InspectionOptions())
    assert inspection.facts == ()
    html = render_inspection(inspection)
    assert "1 problem must be fixed before training." in html
    assert html.count("<summary>6 of 6 cases</summary>") == 1
    assert "<img" not in html


def test_of_a_large_image_a_part_is_shown(tmp_path: Path) -> None:
    folder = write_slide_dataset(tmp_path / "large", cases=2, shape=(500, 500)).parent
    for example in draw_examples(inspect_dataset(folder, InspectionOptions()).examination, ()):
        assert re.fullmatch(r"rows (0|116) to \d+ and columns (0|116) to \d+ of 500 x 500", example.where)
        with Image.open(io.BytesIO(example.png)) as picture:
            assert picture.size == (384, 384)


def test_examples_begin_with_what_is_wrong(tmp_path: Path) -> None:
    folder = write_slide_dataset(tmp_path / "many", cases=15, shape=(30, 30)).parent
    Image.fromarray(np.full((30, 30), 9, np.uint8)).save(folder / "references/case011.png")
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(folder / "references/case007.png")
    examination = inspect_dataset(folder, InspectionOptions(classes=2)).examination
    names = [report.case.name for report in select_examples(examination)]
    assert names[:2] == ["case007", "case011"]
    assert len(set(names)) == MAX_EXAMPLES
    assert [example.name for example in draw_examples(examination, ())] == names


def test_outlines_lie_inside() -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[1:8, 1:8] = 1
    picture = draw_outlines(np.zeros((9, 9, 3), np.uint8), labels, ("#000000", "#ff0000"))
    expected = labels.copy()
    expected[3:6, 3:6] = 0
    np.testing.assert_array_equal(picture[..., 0], expected * 255)
    assert not picture[..., 1:].any()
