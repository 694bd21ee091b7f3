"""Objects of a job: the files of `overtile client submit --objects` are those of `overtile predict --objects`."""

import json
from pathlib import Path

import pytest
from servers import Server, png
from typer.testing import CliRunner

import overtile
from tests.phantom import draw_slide


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(*words: object) -> None:
    result = CliRunner().invoke(overtile.app, [str(word) for word in words])
    assert result.exit_code == 0, result.output


def test_a_job_gives_the_files_that_predict_gives(server: Server, bundles: dict[str, Path], tmp_path: Path) -> None:
    image = tmp_path / "slide.png"
    image.write_bytes(png(draw_slide((72, 90), seed=0)[0]))
    words = ("--objects", "--outlines", "smooth", "--object-type", "annotation", "--spacing-um", "0.5")
    run("predict", image, "-b", bundles["unet"], "-o", tmp_path / "local", *words, "--runtime", "torch")
    run("client", "submit", image, "-o", tmp_path / "remote", "-m", "unet", *words, "--url", server.url)
    local, remote = ({path.name: path.read_bytes() for path in (tmp_path / each).iterdir()} for each in ("local", "remote"))
    assert set(local) == {
        "slide.png",
        "slide_objects.tiff",
        "slide_objects.csv",
        "slide_objects.geojson",
        "slide_summary.json",
    }
    summaries = [json.loads(files.pop("slide_summary.json")) for files in (local, remote)]
    assert local == remote
    assert [summary.pop("image") for summary in summaries] == ["slide.png", None]
    assert summaries[0] == summaries[1]
