"""Passes with dropout: a network as one of the many that its dropout stands for, so that they can disagree."""

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor, nn

from inference.predictors.predictor import Predictor
from inference.predictors.runtime import AUTO, TORCH, Pass
from models.errors import BundleError


class DropoutPass:
    """A network's pass in which dropout leaves out what a seed says: the same for every tile of one size.

    Each patch goes through by itself, so that what is left out of it depends on no other one in its batch.

    Args:
        run: the pass, by torch.
        layers: the network's layers of dropout, which do nothing otherwise.
        seed: of what they leave out.
    """

    def __init__(self, run: Pass, layers: Sequence[nn.Module], seed: int) -> None:
        self.run, self.layers, self.seed = run, layers, seed

    def __call__(self, patches: Tensor) -> Tensor:
        """(B, R, *S') of (B, C, *S)."""
        return torch.cat([self._one(patch[None]) for patch in patches])

    def _one(self, patch: Tensor) -> Tensor:
        devices = [patch.device] if patch.is_cuda else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self.seed)
            try:
                for layer in self.layers:
                    layer.train()
                return self.run(patch)
            finally:
                for layer in self.layers:
                    layer.eval()


def check_passes(passes: int, runtime: str | None) -> None:
    """Raises BundleError where so many, or what is to run them, make no sense."""
    if passes < 2:
        raise BundleError(
            f"{passes} dropout passes have nothing to compare; choose 2 or more, 8 for example, or leave them out"
        )
    if runtime not in (None, AUTO, TORCH):
        raise BundleError(f"inference.runtime {runtime} leaves dropout out; choose {TORCH}, or leave --dropout-passes out")


def with_dropout(predictor: Predictor, passes: int) -> tuple[Predictor, ...]:
    """Each of a bundle's networks as many times as there are passes (Gal and Ghahramani 2016), each time another draw.

    Args:
        predictor: loaded, run by torch.
        passes: at least two.

    Raises:
        BundleError: its networks have no dropout.
    """
    drawn: list[Predictor] = []
    for member in predictor.members:
        layers = [layer for layer in member.network.modules() if isinstance(layer, nn.Dropout)]
        if not layers:
            raise BundleError(
                "the network was trained without dropout, so that every pass says the same; train it with model.dropout=0.2, "
                "give several bundles, or leave --dropout-passes out"
            )
        for seed in range(passes):
            one = copy(member)
            one.run = DropoutPass(member.run, layers, seed)
            one.room, one.identity = predictor.room, f"{predictor.identity} {len(drawn)} of dropout"
            drawn.append(one)
    drawn[0].classifiers = predictor.classifiers
    return tuple(drawn)
