"""Configs: errors and their messages, and that a written config can be read back."""

from pathlib import Path

import pytest

from configs import schema
from configs.network_sections import SlidingWindowSection, UNetSection
from configs.schema import ConfigError

SHIPPED = sorted(Path("configs").glob("*.yaml"))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


MINIMAL = """
run: {name: r}
data:
  path: d
  dimensions: 2
  channels: [grey]
  classes: [{name: background, colour: "#000000"}, {name: cell, colour: "#ffffff"}]
model: {name: unet}
sampling: {patch_size: [64, 64]}
"""


def test_four_experiments_are_shipped() -> None:
    names = [path.stem for path in SHIPPED]
    assert names == ["histology_sliding_window", "histology_unet", "mri_sliding_window", "mri_unet"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_yaml_reads_back_as_it_was_written(path: Path, tmp_path: Path) -> None:
    config = schema.load(path)
    assert schema.load(write(tmp_path, schema.dump(config))) == config


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_yaml_explains_every_key(path: Path) -> None:
    plain = [line for line in path.read_text().splitlines() if ":" in line and "#" not in line.replace('"#', "")]
    explained_by_what_they_hold = tuple(f"{name}:" for name in schema.Config.model_fields)
    self_explaining = ("  name:", "  channels:", "    - {")
    assert [line for line in plain if not line.startswith(explained_by_what_they_hold + self_explaining)] == []


def test_overrides_are_validated_like_the_file(tmp_path: Path) -> None:
    config = schema.load(write(tmp_path, MINIMAL), ["trainer.max_steps=7", "sampling.patch_size=[32,48]", "run.folder=/tmp/x"])
    assert config.trainer.max_steps == 7
    assert config.patch_size == (32, 48)
    assert config.run.folder == Path("/tmp/x")  # noqa: S108


def test_environment_is_not_interpolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    config = schema.load(write(tmp_path, MINIMAL), ["data.channels=['${oc.env:SECRET}']"])
    assert config.data.channels == ("${oc.env:SECRET}",)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.max_step=5"], "trainer.max_step: unknown key; did you mean trainer.max_steps?"),
        (["model.featuers=[8,16]"], "model.featuers: unknown key; did you mean model.features?"),
        (["trainr.workers=1"], "trainr: unknown key; did you mean trainer?"),
        (["trainer.max_steps=0"], "trainer.max_steps: Input should be greater than 0; got 0"),
        (["run.name=../x"], "run.name: String should match pattern"),
        (
            ["sampling.patch_size=[60,64]"],
            "sampling.patch_size: a U-Net of 4 levels can't take [60, 64]; the next larger size is [64, 64]",
        ),
        (
            ["model.padding=valid", "model.features=[4,8,16,32,64]", "inference.tile_size=[572,570]"],
            "sampling.patch_size: a U-Net of 5 levels can't take [64, 64]; the next larger size is [188, 188]",
        ),
        (["sampling.patch_size=[64]"], "sampling.patch_size: 1 values for 2 dimensions; give one value per axis"),
        (["data.spacing_um=[1,1,1]"], "data.spacing_um: 3 values for 2 dimensions; give one value per axis"),
        (["sampling.patch_size=null"], "sampling.patch_size: missing; a U-Net needs one, for example [256, 256]"),
        (["model={name: sliding_window}"], "the sliding window's patch is its window; remove the key and set model.window"),
        (["normalise.lower=300"], "normalise: lower 300 is not below upper 255; give the range's two ends in order"),
        (["model.name=transformer"], "model: Input tag 'transformer'"),
        (["trainer.max_steps"], "override 'trainer.max_steps': not section.key=value, for example trainer.max_steps=500"),
        (["=3"], "override '=3': not section.key=value, for example trainer.max_steps=500"),
        (["data.ignore_label=#ff0000"], "# begins a comment in YAML; quote the value: data.ignore_label=\"'#ff0000'\""),
    ],
)
def test_refuses_with_the_key_and_what_to_do(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        schema.load(write(tmp_path, MINIMAL), overrides)
    assert message in str(caught.value)


def test_window_that_the_convolutions_use_up() -> None:
    with pytest.raises(ValueError, match="window 20 is used up by the convolutions; choose a larger window or fewer of them"):
        SlidingWindowSection(name="sliding_window", window=20)


def test_lists_every_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        schema.load(write(tmp_path, MINIMAL), ["trainer.max_step=5", "run.seed=-1"])
    assert len(str(caught.value).splitlines()) == 2


def test_missing_key_names_the_override(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run: missing; add it to the file or give run=VALUE on the command line"):
        schema.load(write(tmp_path, MINIMAL.replace("run: {name: r}", "")))


@pytest.mark.parametrize("text", ["a: [1", "just text", "- a list", "!!python/object/apply:os.system ['true']", "\x00"])
def test_no_yaml_mapping(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml: "):
        schema.load(write(tmp_path, text))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"nothing\.yaml: can't be read; give the path of a YAML file, for example configs/histology_unet"
    ):
        schema.load(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("levels", "context_px", "smallest", "output"), [(2, 8, 18, 2), (3, 20, 44, 4), (4, 44, 92, 4), (5, 92, 188, 4)]
)
def test_arithmetic_of_valid_networks(levels: int, context_px: int, smallest: int, output: int) -> None:
    section = UNetSection(name="unet", features=(4,) * levels, padding="valid")
    assert section.axis(0).context_px == context_px
    assert section.axis(0).legal_size(1) == smallest == output + 2 * context_px


@pytest.mark.parametrize(("at_least", "legal"), [(1, 188), (188, 188), (189, 204), (560, 572), (572, 572), (573, 588)])
def test_legal_sides_of_the_original(at_least: int, legal: int) -> None:
    section = UNetSection(name="unet", features=(64, 128, 256, 512, 1024), padding="valid")
    assert section.axis(0).legal_size(at_least) == legal  # 16k + 60


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("depths=[2,2]", "model: depths: 2 values for 4 features; give 4, one per level, or null"),
        (
            "decoder_depths=[2]",
            "model: decoder_depths: 1 values for 4 features; give 3, one per level except the bottom, or null",
        ),
        ("kernels=[[3,3]]", "model: kernels: 1 values for 4 features; give 4, one per level, or null"),
        ("strides=[[2,2]]", "model: strides: 1 values for 4 features; give 3, one per level except the bottom, or null"),
        ("kernels=[[3,3],[3,4],[3,3],[3,3]]", "model: kernels: [3, 4] has an even size, which has no centre; give odd sizes"),
        ("kernels=[[3,3],[3,3],[3],[3,3]]", "model.kernels: [3] for 2 dimensions; give one value per axis in each entry"),
        ("strides=[[2,2],[2,2,2],[2,2]]", "model.strides: [2, 2, 2] for 2 dimensions; give one value per axis in each entry"),
        ("blocks=residual", "model: blocks: residual doesn't work with padding valid, which crops the levels; set blocks to"),
        ("down=strided", "set down to max_pool, or padding to same"),
    ],
)
def test_refuses_u_nets_that_cannot_be(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        schema.load(write(tmp_path, MINIMAL), [f"model.{override}", "model.padding=valid", "sampling.patch_size=[92,92]"])
    assert message in str(caught.value)
