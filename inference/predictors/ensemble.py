"""Several bundles as one: each goes over the image with its own tiles, and their answers are averaged row by row."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from configs.schema import Config
from inference.predictors.dropout import check_passes, with_dropout
from inference.predictors.loading import load_predictor, resident_bytes
from inference.predictors.predictor import Predictor
from inference.predictors.runtime import TORCH
from inference.tiling.stitch import Band
from models.bundle import Bundle
from models.bundle_agreement import differences
from models.errors import BundleError
from models.heads import Head


@dataclass(frozen=True)
class Ensemble:
    """Predictors that answer the same question, each its own way.

    Where all are of one method their logits are averaged, as those of folds are. Logits of different methods needn't have
    one scale, and the surer method would outvote the other by it; there probabilities are averaged, of which each has as
    many.

    Args:
        members: at least one.
        says_disagreement: whether the members' disagreement is made beside their mean.
    """

    members: tuple[Predictor, ...]
    says_disagreement: bool = False

    @property
    def config(self) -> Config:
        """The first one's; all mean the same by it."""
        return self.members[0].config

    @property
    def head(self) -> Head:
        """The same for all."""
        return self.members[0].head

    def mean(self, logits: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """One (R, *S) of one a member."""
        if len({member.config.model.name for member in self.members}) == 1:
            return np.asarray(np.mean(logits, axis=0, dtype=np.float32))
        return np.asarray(self.head.mean(logits), np.float32)

    def disagreement(self, logits: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """How far the members are apart at each pixel, (*S) of one (R, *S) a member; 0 where all say the same, at most 1.

        The entropy of their mean less the mean of their entropies, each by the largest there is: the mutual information of
        the class and the member (Houlsby et al. 2011, equation 2).
        """
        together = self.head.uncertainty(np.asarray(self.head.mean(logits), np.float32))
        apart = np.mean([self.head.uncertainty(each) for each in logits], axis=0, dtype=np.float32)
        return np.asarray(np.maximum(together - apart, 0), np.float32)


def predictors_of(predictor: Predictor | Ensemble) -> tuple[Predictor, ...]:
    """One a bundle."""
    return predictor.members if isinstance(predictor, Ensemble) else (predictor,)


def load_ensemble(
    bundles: Sequence[Bundle],
    device: torch.device | None = None,
    runtime: str | None = None,
    memory_bytes: int | None = None,
    *,
    says_disagreement: bool = False,
    dropout_passes: int | None = None,
) -> Predictor | Ensemble:
    """The predictor of a bundle, or several bundles' together, which share the memory; the rest is `load_predictor`'s.

    Where they are to say how far they are apart, the networks of one bundle go over the image one by one, too. With dropout
    passes each network goes over it that many times, as many different ones.

    Raises:
        BundleError: two of them mean different things, with every difference; the runtime isn't to be had, or leaves dropout
            out; or there is none.
    """
    if dropout_passes is not None:
        check_passes(dropout_passes, runtime)
        runtime = TORCH
    for other in bundles[1:]:
        _check_alike(bundles[0], other)
    members = tuple(load_predictor(bundle, device, runtime, memory_bytes) for bundle in bundles)
    if dropout_passes is not None:
        members = tuple(drawn for member in members for drawn in with_dropout(member, dropout_passes))
    elif says_disagreement:
        members = tuple(network for member in members for network in _apart(member))
    if says_disagreement and (len(members) == 1 or members[0].head.gives_values):
        raise BundleError(
            "one network, or networks that give values, can't disagree about classes; give several bundles, one of folds, "
            "or --dropout-passes, or leave --disagreement out"
        )
    if len(members) == 1:
        return members[0]
    for member in members:
        if member.room:
            member.room = replace(member.room, process_bytes=resident_bytes(), shares=len(members))
    return Ensemble(members, says_disagreement)


def _apart(predictor: Predictor) -> tuple[Predictor, ...]:
    """The networks of one bundle."""
    if len(predictor.members) == 1:
        return (predictor,)
    for number, member in enumerate(predictor.members):
        member.room, member.identity = predictor.room, f"{predictor.identity} {number}"
    predictor.members[0].classifiers = predictor.classifiers
    return predictor.members


def _check_alike(first: Bundle, other: Bundle) -> None:
    found = differences(first.manifest, other.manifest)
    heads = [bundle.config.head.name for bundle in (first, other)]
    if heads[0] != heads[1]:
        found.append(f"head {heads[0]} and {heads[1]}")
    labels = [bundle.config.image_label.classes for bundle in (first, other)]
    if labels[0] != labels[1]:
        named = [", ".join(names) or "none" for names in labels]
        found.append(f"labels of whole images {named[0]} and {named[1]}")
    if found:
        raise BundleError(
            f"{first.manifest.name} and {other.manifest.name} differ in {'; '.join(found)}: their outputs mean different "
            "things and have no mean; give bundles that were trained from the same data section and head"
        )


def mean_bands(ensemble: Ensemble, streams: Sequence[Iterable[Band]], first_row: int = 0) -> Iterator[Band]:
    """The mean of each member's bands of one image from `first_row` on, whose borders may lie elsewhere in each.

    The member that is farthest behind goes on first, so that each holds a band of its own and what others are ahead.
    """
    pending = [_Pending(iter(stream), known=first_row) for stream in streams]
    done = first_row
    while True:
        for member in pending:
            member.advance(done)
        known = min(member.known for member in pending)
        if known == done:
            return
        logits = [member.take(done, known) for member in pending]
        yield Band(done, ensemble.mean(logits), ensemble.disagreement(logits) if ensemble.says_disagreement else None)
        done = known


@dataclass
class _Pending:
    """Rows that one member has given and that aren't averaged yet."""

    bands: Iterator[Band]
    held: list[Band] = field(default_factory=list)
    known: int = 0  # rows that it has given

    def advance(self, done: int) -> None:
        """Takes one more band, where no rows beyond `done` are known and there is one."""
        if self.known == done and (band := next(self.bands, None)) is not None:
            self.held.append(band)
            self.known = band.start + band.logits.shape[1]

    def take(self, start: int, stop: int) -> NDArray[np.float32]:
        """Logits (R, stop - start, *rest) of rows that are known; those before `stop` are given up."""
        parts = [band.logits[:, max(0, start - band.start) : stop - band.start] for band in self.held if band.start < stop]
        self.held = [band for band in self.held if band.start + band.logits.shape[1] > stop]
        return np.concatenate(parts, axis=1)
