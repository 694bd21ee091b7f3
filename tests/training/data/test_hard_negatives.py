"""Hard negatives: mined on background that looks like foreground, in turns, limited in number, and stored in checkpoints."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as lightning
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_lightning.callbacks import ModelCheckpoint
from scipy.ndimage import binary_dilation
from torch.utils.data import DataLoader

from configs import schema
from configs.schema import Config
from datasets.cases import Case, read_cases
from inference.predictors.methods import make_predictor
from inference.predictors.predictor import Predictor
from models.architectures import build
from models.sliding_window import SlidingWindow
from tests.phantom import draw_slide, write_slide_dataset
from training.data import hard_negatives
from training.data.hard_negatives import HardNegatives, mine_hard_negatives
from training.data.open_cases import open_training_image
from training.data.sampling import PatchSampler, index_labels

SHAPE = (90, 100)
QUIET = pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*treespec, LeafSpec.*")
DARK = (
    "model.window=5",
    "model.convolutions=[{features: 1, kernel: 1}]",
    "model.pool=1",
    "model.hidden=1",
    "model.norm=none",
    "normalise={method: range, lower: 0, upper: 255}",
    "sampling.hard_negative_share=0.5",
)


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """Four slides whose right half contains decoys: blobs that are background in the reference."""
    folder = write_slide_dataset(tmp_path / "slides", cases=4, shape=SHAPE, splits=("train",) * 3 + ("val",)).parent
    for case in read_cases(folder):
        assert case.reference is not None
        labels = np.array(Image.open(case.reference))
        labels[:, SHAPE[1] // 2 :] = 0
        Image.fromarray(labels).save(case.reference)
    return folder


def decoys(number: int) -> NDArray[np.bool_]:
    """Return a mask of the slide's decoys and of the pixels around them, whose colour is mixed."""
    blobs = draw_slide(SHAPE, number)[1] > 0
    blobs[:, : SHAPE[1] // 2] = False
    return np.asarray(binary_dilation(blobs, iterations=2))


def config_of(folder: Path, *overrides: str) -> Config:
    return schema.load(Path("configs/histology_sliding_window.yaml"), [f"data.path={folder}", *DARK, *overrides])


def dark_is_foreground(config: Config, prior: tuple[float, ...]) -> Predictor:
    """Return a network that predicts foreground where the window's centre is purple, with more certainty the darker it is."""
    network = build(config).eval()
    assert isinstance(network, SlidingWindow)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        convolution: Any = network.convolutions[0]
        convolution.weight[0, 0], convolution.bias[0] = -1, 0.3  # of red: -0.14 in nuclei, 0.82 elsewhere
        network.hidden.weight[0, 0, 2, 2] = 1
        network.head.weight[1], network.head.bias[1] = 40, -8
    return make_predictor(config, network, prior, torch.device("cpu"))


def made(folder: Path, *overrides: str) -> tuple[Config, tuple[Case, ...], PatchSampler, Predictor]:
    config = config_of(folder, *overrides)
    cases = read_cases(folder, config.data)[:3]
    indices = []
    for case in cases:
        with closing(open_training_image(case, config)) as image:
            indices.append(index_labels(image.labels, 2, 0, case.ignore_label))
    sampler = PatchSampler(indices, config)
    return config, cases, sampler, dark_is_foreground(config, sampler.class_prior)


def mined(folder: Path, *overrides: str, seed: int = 0) -> NDArray[np.int64]:
    """Mine the first slide."""
    config, cases, sampler, predictor = made(folder, *overrides)
    random = np.random.default_rng(seed)
    with closing(open_training_image(cases[0], config)) as image:
        return mine_hard_negatives(image, predictor, sampler.class_prior, cases[0].ignore_label, random)


def test_mined_positions_lie_on_decoys(slides: Path) -> None:
    positions = mined(slides)
    rows, columns = np.unravel_index(positions, SHAPE)
    assert len(positions) > 100
    assert decoys(0)[rows, columns].all()
    assert len(np.unique(positions)) == len(positions)


def test_sizes_of_tiles_and_pieces_have_no_effect(slides: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mined(slides)
    monkeypatch.setattr(hard_negatives, "PIECE_PIXELS", 700)
    assert mined(slides, "inference.tile_size=[40,40]").tolist() == whole.tolist()


def test_certain_positions_are_more_likely_and_their_number_is_limited(slides: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = mined(slides)
    monkeypatch.setattr(hard_negatives, "MOST_PER_CASE", 40)
    red = draw_slide(SHAPE, 0)[0][0].ravel()
    draws = [mined(slides, seed=seed) for seed in range(5)]
    assert [len(draw) for draw in draws] == [40] * 5
    assert len({tuple(draw.tolist()) for draw in draws}) == 5
    assert all(np.isin(draw, everything).all() for draw in draws)
    assert red[np.concatenate(draws)].mean() < red[everything].mean() - 5


def test_ignored_pixels_are_not_mined(slides: Path) -> None:
    for case in read_cases(slides):
        assert case.reference is not None
        labels = np.array(Image.open(case.reference))
        labels[:, SHAPE[1] // 2 :] = 255
        Image.fromarray(labels).save(case.reference)
    assert mined(slides, "data.ignore_label=255").size == 0


class Module(lightning.LightningModule):
    """A module that trains nothing."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        """Return a loss without effect."""
        return self.weight

    def validation_step(self, batch: Any, number: int) -> None:
        """Do nothing."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return any optimizer."""
        return torch.optim.SGD(self.parameters(), 0.1)


def run(callback: HardNegatives, predictor: Predictor, folder: Path, *, rounds: int) -> dict[str, Any]:
    """Run rounds of training and validation, and return the checkpoint of the last validation."""
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=rounds,
        num_sanity_val_steps=0,
        logger=False,
        callbacks=[ModelCheckpoint(folder, filename="last", save_on_train_epoch_end=False), callback],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader([0])  # type: ignore[arg-type]  # a list is a data set
    trainer.fit(Module(predictor), loader, loader)
    path = max(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    return checkpoint


@QUIET
def test_cases_are_mined_in_turns_and_sampled_with_their_share(slides: Path, tmp_path: Path) -> None:
    config, cases, sampler, predictor = made(slides, "trainer.validate_every_steps=1")
    before = [sampler.draw(np.random.default_rng(index)) for index in range(50)]
    run(HardNegatives(cases, sampler, config, {}, count=2), predictor, tmp_path / "one", rounds=1)
    assert len(set(sampler.hard_negatives[:, 0].tolist())) == 2
    run(HardNegatives(cases, sampler, config, {}, count=2), predictor, tmp_path / "two", rounds=2)
    assert set(sampler.hard_negatives[:, 0].tolist()) == {0, 1, 2}
    draws = [sampler.draw(np.random.default_rng(index)) for index in range(2_000)]
    assert draws[:50] != before
    masks = [decoys(number) for number in range(3)]
    on_decoys = [masks[number][start[0] + 2, start[1] + 2] for number, start in draws]
    assert 0.25 <= np.mean(on_decoys) < 0.32  # half of the background's half, and the background draws that lie there anyway


@QUIET
def test_a_resumed_run_draws_the_hard_negatives_of_its_checkpoint(slides: Path, tmp_path: Path) -> None:
    config, cases, sampler, predictor = made(slides)
    callback = HardNegatives(cases, sampler, config, {}, count=2)
    checkpoint = run(callback, predictor, tmp_path / "run", rounds=2)
    resumed = PatchSampler(sampler.indices, config)
    HardNegatives(cases, resumed, config, {}, count=2).load_state_dict(checkpoint["callbacks"][callback.state_key])
    assert len(resumed.hard_negatives) > 100
    for index in range(200):
        assert resumed.draw(np.random.default_rng(index)) == sampler.draw(np.random.default_rng(index))


@QUIET
def test_a_share_of_0_turns_mining_off(slides: Path, tmp_path: Path) -> None:
    config, cases, sampler, predictor = made(slides, "sampling.hard_negative_share=0")
    run(HardNegatives(cases, sampler, config, {}, count=1), predictor, tmp_path / "run", rounds=1)
    assert sampler.hard_negatives.shape == (0, 2)
