"""Open cases: a cache of the most recently used within a memory limit, and statistics that are read once."""

from pathlib import Path

import numpy as np
import pytest

from configs import schema
from configs.schema import Config
from datasets.cases import Case, read_cases
from imaging.source import ImageSource
from tests.phantom import write_slide_dataset, write_volume_dataset
from training.data import open_cases as opening
from training.data.open_cases import LabelledImage, TrainingImageCache, open_training_image
from training.data.patch_dataset import ValidationDataset

SHAPE = (12, 16, 16)


@pytest.fixture
def volumes(tmp_path: Path) -> tuple[tuple[Case, ...], Config]:
    folder = write_volume_dataset(tmp_path, cases=5, shape=SHAPE).parent
    return read_cases(folder), schema.load(Path("configs/mri_unet.yaml"), [f"data.path={folder}"])


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of cases in the order in which they are closed."""
    names: list[str] = []
    close = LabelledImage.close

    def record(self: LabelledImage) -> None:
        names.append(self.name)
        close(self)

    monkeypatch.setattr(LabelledImage, "close", record)
    return names


def test_held_bytes_are_those_of_image_and_reference(volumes: tuple[tuple[Case, ...], Config]) -> None:
    labelled = open_training_image(volumes[0][0], volumes[1])
    each = [source.dtype.itemsize * int(np.prod(SHAPE)) for source in (labelled.image, labelled.reference)]
    assert labelled.held_bytes == sum(each)


def test_the_most_recently_used_stay_open(volumes: tuple[tuple[Case, ...], Config], closed: list[str]) -> None:
    cases, config = volumes
    opened = TrainingImageCache(cases, config, limit_bytes=2 * open_training_image(cases[0], config).held_bytes + 1)
    first = opened[0]
    opened[1]
    assert opened[0] is first
    opened[2]
    assert closed == [cases[1].name]
    opened[3]
    assert closed == [cases[1].name, cases[0].name]


def test_one_stays_open_with_any_limit(volumes: tuple[tuple[Case, ...], Config], closed: list[str]) -> None:
    cases, config = volumes
    opened = TrainingImageCache(cases, config, limit_bytes=0)
    for number in (0, 0, 1, 2):
        assert opened[number].image.read((slice(0, 2),) * 3).shape == (1, 2, 2, 2)
    assert closed == [cases[0].name, cases[1].name]


def test_no_more_files_than_a_process_may_open(
    volumes: tuple[tuple[Case, ...], Config], closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "MOST_OPEN", 2)
    cases, config = volumes
    opened = TrainingImageCache(cases, config, limit_bytes=2**40)
    for number in range(4):
        opened[number]
    assert closed == [cases[0].name, cases[1].name]


def test_statistics_are_read_once(volumes: tuple[tuple[Case, ...], Config], monkeypatch: pytest.MonkeyPatch) -> None:
    cases, config = volumes
    opened = TrainingImageCache(cases, config, limit_bytes=0)
    before = opened[0]
    opened[1]
    monkeypatch.setattr(ImageSource, "blocks", None)  # so that reading a whole image would fail
    assert opened[0] is not before
    assert opened[0].statistics is before.statistics
    elsewhere = TrainingImageCache(cases, config, limit_bytes=0, statistics=opened.statistics)
    assert elsewhere[1].statistics is opened.statistics[1]


def test_training_uses_the_training_spacing_and_validation_the_image_s_own(tmp_path: Path) -> None:
    folder = write_volume_dataset(tmp_path, cases=3, shape=(8, 12, 16), spacing_um=(2000.0, 1000.0, 1000.0)).parent
    config = schema.load(Path("configs/mri_unet.yaml"), [f"data.path={folder}", "data.spacing_um=[1000,1000,2000]"])
    training = open_training_image(read_cases(folder)[0], config)
    assert training.image.shape == training.reference.shape == (16, 12, 8)
    assert training.image.spacing_um == (1000.0, 1000.0, 2000.0)
    own = ValidationDataset(read_cases(folder)[:1], config)[0]
    assert own.image.shape == own.reference.shape == (8, 12, 16)
    whole = training.reference.read(tuple(slice(0, size) for size in training.reference.shape))
    assert set(np.unique(whole)) <= set(np.unique(own.reference.read((slice(0, 8), slice(0, 12), slice(0, 16)))))


def test_validation_opens_one_at_a_time(tmp_path: Path, closed: list[str]) -> None:
    folder = write_slide_dataset(tmp_path, cases=4, shape=(70, 80)).parent
    config = schema.load(Path("configs/histology_unet.yaml"), [f"data.path={folder}"])
    dataset = ValidationDataset(read_cases(folder)[:3], config)
    assert [dataset[number].name for number in (0, 1, 0)] == ["case000", "case001", "case000"]
    assert closed == ["case000", "case001"]
