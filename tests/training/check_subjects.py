"""Tiny runs for the tests of sanity checks: correct ones, and the same with one faulty part."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from configs import schema
from configs.schema import Config
from training.sanity_checks.checks import CheckOutcome
from training.sanity_checks.subject import Subject
from training.sanity_checks.suite import check_subject

WINDOW = (
    "model.window=19",
    "model.convolutions=[{features: 8, kernel: 4},{features: 8, kernel: 3}]",
    "model.hidden=16",
    "trainer.batch_size=32",
)
UNET = ("model.features=[8,16]", "sampling.patch_size=[32,32]", "trainer.batch_size=4")
READ = ("examined", "_sampling", "pool", "validation_batches", "crops")  # independent of the parts


def window_words(data: Path, folder: Path) -> tuple[str, ...]:
    return (f"data.path={data}", f"run.folder={folder}", *WINDOW)


def window_config(data: Path, folder: Path, *overrides: str) -> Config:
    return schema.load(Path("configs/histology_sliding_window.yaml"), [*window_words(data, folder), *overrides])


def unet_config(data: Path, folder: Path, *overrides: str) -> Config:
    words = (f"data.path={data}", f"run.folder={folder}", *UNET)
    return schema.load(Path("configs/histology_unet.yaml"), [*words, *overrides])


def with_part(subject: Subject, **parts: Any) -> Subject:
    """Return the subject with another part, without reading the data again."""
    other = replace(subject, **parts)
    other.__dict__.update({name: value for name, value in vars(subject).items() if name in READ})
    return other


def check(subject: Subject, *numbers: int) -> dict[int, CheckOutcome]:
    return {outcome.number: outcome for outcome in check_subject(subject, numbers, 15, lambda *_: None)}
