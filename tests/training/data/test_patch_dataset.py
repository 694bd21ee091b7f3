"""Patch data set: errors for every kind of invalid data, and patches that depend on the seed alone."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from cutting import Patches
from PIL import Image

from configs import schema
from configs.schema import Config
from datasets.cases import Case, read_cases
from imaging.errors import DataError
from imaging.open import open_image
from tests.phantom import write_slide_dataset, write_volume, write_volume_dataset
from training.data.examination import examine_data
from training.data.open_cases import open_training_image
from training.data.sampling import MOST_POSITIONS, PatchSampler, index_labels
from training.data.splitting import split_cases


def config_of(name: str, data: Path, *overrides: str) -> Config:
    return schema.load(Path(f"configs/{name}.yaml"), [f"data.path={data}", *overrides])


def index_of(case: Case, classes: int = 2, seed: int = 0):  # type: ignore[no-untyped-def]
    assert case.reference is not None
    with open_image(case.reference, labels=True) as reference:
        return index_labels(reference, classes, seed)


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    return write_slide_dataset(tmp_path / "slides", cases=4, shape=(90, 100)).parent


def write_table(folder: Path, *lines: str) -> Path:
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_splits_by_the_table(slides: Path) -> None:
    splits = split_cases(config_of("histology_unet", slides).data, 0)
    assert [case.name for case in splits.train] == ["case000", "case001"]
    assert [case.name for case in splits.val] == ["case002"]


def test_draws_whole_groups_where_the_table_has_no_split(slides: Path) -> None:
    names = [f"case00{number}" for number in range(4)]
    groups = ["a", "a", "b", "b"]
    rows = [f"{name},images/{name}.png,references/{name}.png,{group}" for name, group in zip(names, groups, strict=True)]
    write_table(slides, "case,image,reference,group", *rows)
    data = config_of("histology_unet", slides).data
    splits = split_cases(data, 3)
    assert {case.group for case in splits.train} | {case.group for case in splits.val} == {"a", "b"}
    assert not {case.group for case in splits.train} & {case.group for case in splits.val}
    assert splits == split_cases(data, 3)


@pytest.mark.parametrize(
    ("lines", "code", "message"),
    [
        (("case,image", "a,images/case000.png"), "split_empty", "no case with a reference has split 'train'"),
        (("image", "images/case000.png"), "cases_invalid", "column 'case' is missing; columns are case, image, reference"),
        (("case,image,refrence", "a,images/case000.png,1"), "cases_invalid", "column 'refrence' is unknown"),
        (("case,image",), "cases_invalid", "no cases; add a line for each image"),
        (
            ("case,image", "a,images/case000.png", "a,images/case001.png"),
            "cases_invalid",
            "line 3: case 'a' is empty or comes twice",
        ),
        (("case,image", "a,images/none.png"), "cases_invalid", "line 2: images/none.png: no such file"),
        (("case,image", "a,../x.png"), "cases_invalid", "line 2: ../x.png: leaves the data set's folder"),
        (("case,image", "a,/etc/passwd"), "cases_invalid", "line 2: /etc/passwd: leaves the data set's folder"),
        (("case,image", "a"), "cases_invalid", "line 2: no image; name a file"),
        (("case,image", "a,images/case000.png,b"), "cases_invalid", "line 2: not as many cells as there are columns"),
        (("case,image,split", "a,images/case000.png,fit"), "cases_invalid", "line 2: split 'fit'; allowed are train"),
        (
            ("case,image,split", "a,images/case000.png,train", "b,images/case001.png,"),
            "cases_invalid",
            "line 3: no split, though other cases have one",
        ),
        (
            (
                "case,image,reference,group,split",
                "a,images/case000.png,references/case000.png,p,train",
                "b,images/case001.png,references/case001.png,p,val",
            ),
            "group_in_both_splits",
            "groups p are in train and in val",
        ),
    ],
)
def test_an_invalid_table(slides: Path, lines: tuple[str, ...], code: str, message: str) -> None:
    write_table(slides, *lines)
    with pytest.raises(DataError) as caught:
        split_cases(config_of("histology_unet", slides).data, 0)
    assert caught.value.code == code
    assert message in caught.value.message


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data set is recognised. It holds no images; .*\nLooked for:\n    cases\.csv"):
        read_cases(tmp_path)


def test_reference_of_another_shape(slides: Path) -> None:
    Image.fromarray(np.zeros((90, 99), np.uint8)).save(slides / "references/case000.png")
    with pytest.raises(DataError) as caught:
        open_training_image(read_cases(slides)[0], config_of("histology_unet", slides))
    assert caught.value.code == "reference_shape"
    assert caught.value.message == (
        "case case000: reference (90, 99) has another shape than its image (90, 100); export it on the image's own grid"
    )


def test_reference_in_colour(slides: Path) -> None:
    Image.fromarray(np.zeros((90, 100, 3), np.uint8)).save(slides / "references/case000.png")
    message = "case case000: reference has 3 channels, allowed is 1; save labels, or give each class its colour"
    with pytest.raises(DataError, match=message):
        open_training_image(read_cases(slides)[0], config_of("histology_unet", slides))


def test_reference_elsewhere_in_space(tmp_path: Path) -> None:
    folder = write_volume_dataset(tmp_path, cases=3).parent
    with open_image(folder / "references/case000.nii.gz") as source:
        labels = next(source.blocks())[0]
    write_volume(folder / "references/case000.nii.gz", labels, (1100.0, 1000.0, 1000.0))
    with pytest.raises(DataError, match=r"case case000: reference's affine differs from its image's by 0\.1 mm"):
        open_training_image(read_cases(folder)[0], config_of("mri_unet", folder))


def test_no_reference(slides: Path) -> None:
    case = read_cases(slides)[0]
    with pytest.raises(DataError, match=r"case x: there is no reference; name one in cases\.csv"):
        open_training_image(Case("x", case.images), config_of("histology_unet", slides))


def test_wrong_channels_name_the_case(slides: Path) -> None:
    Image.fromarray(np.zeros((90, 100), np.uint8)).save(slides / "images/case001.png")
    with pytest.raises(DataError, match=r"case case001: image has 1 channels, the model takes 3"):
        open_training_image(read_cases(slides)[1], config_of("histology_unet", slides))


def test_unknown_labels_are_counted(slides: Path) -> None:
    labels = np.zeros((90, 100), np.uint8)
    labels[0, :3], labels[1, :2] = 255, 7
    Image.fromarray(labels).save(slides / "references/case000.png")
    with pytest.raises(DataError, match=r"reference holds 7 \(2 pixels\), 255 \(3 pixels\); allowed are 0 \.\. 1"):
        index_of(read_cases(slides)[0])


def test_no_foreground(slides: Path) -> None:
    Image.fromarray(np.zeros((90, 100), np.uint8)).save(slides / "references/case000.png")
    with pytest.raises(DataError, match="the training references have no label above 0"):
        PatchSampler([index_of(read_cases(slides)[0])], config_of("histology_unet", slides))


def test_validation_without_foreground(slides: Path) -> None:
    Image.fromarray(np.zeros((90, 100), np.uint8)).save(slides / "references/case002.png")
    with pytest.raises(DataError, match="no reference of val holds a label above 0; put a case that has some into val"):
        examine_data(config_of("histology_unet", slides), slides / "splits.csv")


def test_examined_cases_are_identified_by_their_digests(slides: Path) -> None:
    examined = examine_data(config_of("histology_unet", slides), slides / "splits.csv")
    files = [slides / folder / "case000.png" for folder in ("images", "references")]
    assert examined.digests["case000"] == tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    assert examined.digests.keys() == {"case000", "case001", "case002"}
    assert examined.images == tuple(digests[0] for digests in examined.digests.values())


def test_label_index_has_counts_and_positions(slides: Path) -> None:
    index = index_of(read_cases(slides)[0])
    labels = np.asarray(Image.open(slides / "references/case000.png"))
    assert index.counts.tolist() == [(labels == 0).sum(), (labels == 1).sum()]
    for label in (0, 1):
        rows, columns = np.unravel_index(index.positions[label], labels.shape)
        assert (labels[rows, columns] == label).all()
        assert len(np.unique(index.positions[label], axis=0)) == min(MOST_POSITIONS, index.counts[label])


@pytest.mark.parametrize("overrides", [("histology_unet", "sampling.patch_size=[32,32]"), ("histology_sliding_window",)])
def test_a_patch_depends_on_seed_and_index_alone(slides: Path, overrides: tuple[str, ...]) -> None:
    name, *others = overrides
    config = config_of(name, slides, *others)
    first, second = Patches(config), Patches(config)
    second[3]  # earlier draws have no effect
    for index in (0, 5):
        for one, other in zip(first[index], second[index], strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert not np.array_equal(first[0][0].numpy(), first[1][0].numpy())
    assert not np.array_equal(first[0][0].numpy(), Patches(config_of(name, slides, "run.seed=1", *others))[0][0].numpy())


def test_windows_of_all_classes_are_equally_frequent(slides: Path) -> None:
    dataset = Patches(config_of("histology_sliding_window", slides, "augment.probability=0"))
    labels = [int(dataset[index][1]) for index in range(300)]
    assert 120 < sum(labels) < 180
    assert dataset[0][0].shape == (3, 35, 35)


def test_a_window_is_labelled_by_its_centre(slides: Path) -> None:
    config = config_of("histology_sliding_window", slides, "augment.probability=0", "model.window=30")
    dataset = Patches(config)
    for index in range(20):
        _, case, start = dataset.draws.draw_location(index)
        labels = np.asarray(Image.open(slides / f"references/case{case:03d}.png"))
        assert int(dataset[index].reference) == labels[start[0] + 15, start[1] + 15]
        assert dataset[index].case == case


def test_foreground_share_of_the_patches_contains_foreground(tmp_path: Path) -> None:
    folder = write_slide_dataset(tmp_path, cases=4, shape=(300, 300)).parent
    labels = np.zeros((300, 300), np.uint8)
    labels[:6, :6] = 1
    for number in range(2):
        Image.fromarray(labels).save(folder / f"references/case{number:03d}.png")
    overrides = ("sampling.patch_size=[16,16]", "augment.probability=0", "sampling.foreground_share=0.5")
    dataset = Patches(config_of("histology_unet", folder, *overrides))
    with_foreground = sum(bool(dataset[index][1].any()) for index in range(200))
    assert 80 < with_foreground < 125


def test_images_smaller_than_a_patch_are_mirrored(tmp_path: Path) -> None:
    folder = write_slide_dataset(tmp_path, cases=3, shape=(40, 50)).parent
    patch = Patches(config_of("histology_unet", folder))[0]
    assert patch.image.shape == (3, 128, 128)
    assert patch.reference.shape == (128, 128)
