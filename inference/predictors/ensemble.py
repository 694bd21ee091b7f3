"""Ensembles of bundles. Each bundle has its own tiles, and the outputs of all are averaged band by band."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from configs.schema import Config
from disk.process import resident_bytes
from inference.predictors.dropout import check_passes, with_dropout
from inference.predictors.loading import load_predictor
from inference.predictors.predictor import Predictor
from inference.predictors.runtime import TORCH
from inference.tiling.stitch import Band
from models.bundle import Bundle
from models.errors import BundleError
from models.head import Head
from models.heads import pooled_head
from models.manifest import differences


@dataclass(frozen=True)
class Ensemble:
    """Predictors of several bundles whose outputs have the same meaning.

    If all members use one method, their logits are averaged, as for the folds of a run. Logits of different methods may differ
    in scale, so that the more certain method would outvote the other; then probabilities are averaged.

    Args:
        members: at least one predictor.
        gives_disagreement: whether the disagreement of the members is computed, too.
    """

    members: tuple[Predictor, ...]
    gives_disagreement: bool = False

    @property
    def config(self) -> Config:
        """Config of the first member."""
        return self.members[0].config

    @cached_property
    def head(self) -> Head:
        """Head of all members, with a temperature for their mean."""
        return pooled_head([member.head for member in self.members])

    def mean(self, logits: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the mean (R, *S) of the members' logits, (R, *S) each."""
        if len({member.config.model.name for member in self.members}) == 1:
            return np.asarray(np.mean(logits, axis=0, dtype=np.float32))
        return np.asarray(self.head.mean(logits), np.float32)

    def disagreement(self, logits: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the disagreement of the members at each pixel, (*S), from 0 (all agree) to 1.

        It is the mutual information of class and member (Houlsby et al. 2011, equation 2): the entropy of the mean minus the
        mean of the entropies, each relative to the largest entropy. It is that of the networks' own probabilities, since it is
        information only if all have one temperature.
        """
        head = self.head.uncalibrated
        of_mean = head.uncertainty(np.asarray(head.mean(logits), np.float32))
        mean_of_members = np.mean([head.uncertainty(each) for each in logits], axis=0, dtype=np.float32)
        return np.asarray(np.maximum(of_mean - mean_of_members, 0), np.float32)


def predictors_of(predictor: Predictor | Ensemble) -> tuple[Predictor, ...]:
    """Return the predictor of each bundle."""
    return predictor.members if isinstance(predictor, Ensemble) else (predictor,)


def load_ensemble(
    bundles: Sequence[Bundle],
    device: torch.device | None = None,
    runtime: str | None = None,
    memory_bytes: int | None = None,
    *,
    disagreement: bool = False,
    dropout_passes: int | None = None,
) -> Predictor | Ensemble:
    """Return the predictor of a bundle, or the ensemble of several bundles, which share the memory.

    Args:
        bundles: at least one loaded bundle.
        device: see `load_predictor`.
        runtime: see `load_predictor`.
        memory_bytes: see `load_predictor`.
        disagreement: whether to compute the disagreement; then each network of a bundle is a member of the ensemble.
        dropout_passes: number of members per network, each with its own dropout; None: without dropout.

    Raises:
        BundleError: the outputs of two bundles have different meanings; the runtime isn't available or has no dropout; or the
            networks have no dropout.
    """
    if dropout_passes is not None:
        check_passes(dropout_passes, runtime)
        runtime = TORCH
    for other in bundles[1:]:
        _check_same_meaning(bundles[0], other)
    members = tuple(load_predictor(bundle, device, runtime, memory_bytes) for bundle in bundles)
    if dropout_passes is not None:
        members = tuple(each for member in members for each in with_dropout(member, dropout_passes))
    elif disagreement:
        members = tuple(each for member in members for each in _single_predictors(member))
    if disagreement and (len(members) == 1 or members[0].head.gives_values):
        raise BundleError(
            "one network, or networks that give values, can't disagree about classes; give several bundles, one of folds, "
            "or --dropout-passes, or leave --disagreement out"
        )
    if len(members) == 1:
        return members[0]
    process_bytes = resident_bytes()
    return Ensemble(tuple(member.with_memory_share(process_bytes, len(members)) for member in members), disagreement)


def _single_predictors(predictor: Predictor) -> tuple[Predictor, ...]:
    """Return a predictor for each network of a bundle. The first one has the classifiers."""
    if len(predictor.members) == 1:
        return (predictor,)
    return tuple(
        replace(
            member,
            memory_budget=predictor.memory_budget,
            identity=f"{predictor.identity} {number}",
            classifiers=() if number else predictor.classifiers,
        )
        for number, member in enumerate(predictor.members)
    )


def _check_same_meaning(first: Bundle, other: Bundle) -> None:
    """Refuse bundles whose outputs have different meanings."""
    different = differences(first.manifest, other.manifest)
    heads = [bundle.config.head.name for bundle in (first, other)]
    if heads[0] != heads[1]:
        different.append(f"head {heads[0]} and {heads[1]}")
    labels = [bundle.config.image_label.classes for bundle in (first, other)]
    if labels[0] != labels[1]:
        named = [", ".join(names) or "none" for names in labels]
        different.append(f"labels of whole images {named[0]} and {named[1]}")
    if different:
        raise BundleError(
            f"{first.manifest.name} and {other.manifest.name} differ in {'; '.join(different)}: their outputs mean different "
            "things and have no mean; give bundles that were trained from the same data section and head"
        )


def mean_bands(ensemble: Ensemble, streams: Sequence[Iterable[Band]], first_row: int = 0) -> Iterator[Band]:
    """Yield the mean of the members' bands from `first_row` on. Their bands may begin at different rows.

    Bands are read only when their rows are needed, so that few rows of each member are in memory.
    """
    pending = [_PendingRows(iter(stream), stop=first_row) for stream in streams]
    start = first_row
    while True:
        for member in pending:
            member.advance(start)
        stop = min(member.stop for member in pending)
        if stop == start:
            return
        logits = [member.take(start, stop) for member in pending]
        yield Band(start, ensemble.mean(logits), ensemble.disagreement(logits) if ensemble.gives_disagreement else None)
        start = stop


@dataclass
class _PendingRows:
    """Bands of one member that aren't averaged yet; `stop` is the row after the last one."""

    bands: Iterator[Band]
    buffer: list[Band] = field(default_factory=list)
    stop: int = 0

    def advance(self, start: int) -> None:
        """Read the next band, if there is one and no row from `start` on is in the buffer."""
        if self.stop == start and (band := next(self.bands, None)) is not None:
            self.buffer.append(band)
            self.stop = band.start + band.logits.shape[1]

    def take(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the logits (R, stop - start, *rest) of rows in the buffer, and drop bands that end at `stop` or before."""
        parts = [band.logits[:, max(0, start - band.start) : stop - band.start] for band in self.buffer if band.start < stop]
        self.buffer = [band for band in self.buffer if band.start + band.logits.shape[1] > stop]
        return np.concatenate(parts, axis=1)
