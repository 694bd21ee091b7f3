"""Dropout passes: a network with dropout as several predictors, whose disagreement is measured (Gal and Ghahramani 2016)."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from inference.predictors.predictor import Predictor
from inference.predictors.runtime import AUTO, TORCH, Pass
from models.errors import BundleError


class DropoutPass:
    """Pass of a network with dropout from a fixed seed, so that the same features are dropped in all tiles of one size.

    Each patch has a pass of its own, so that its dropout doesn't depend on the rest of the batch.

    Args:
        run: pass of the network in torch.
        layers: dropout layers of the network, which are inactive outside of the pass.
        seed: seed of the dropout.
    """

    def __init__(self, run: Pass, layers: Sequence[nn.Module], seed: int) -> None:
        self.run, self.layers, self.seed = run, layers, seed

    def __call__(self, patches: Tensor) -> Tensor:
        """Return (B, R, *S') of (B, C, *S)."""
        outputs = []
        for patch in patches:
            with torch.random.fork_rng([patch.device] if patch.is_cuda else []):
                torch.manual_seed(self.seed)
                try:
                    for layer in self.layers:
                        layer.train()
                    outputs.append(self.run(patch[None]))
                finally:
                    for layer in self.layers:
                        layer.eval()
        return torch.cat(outputs)


def check_passes(passes: int, runtime: str | None) -> None:
    """Check the number of dropout passes, and that the runtime has dropout.

    Raises:
        BundleError: fewer than two passes, or a runtime without dropout.
    """
    if passes < 2:
        raise BundleError(
            f"{passes} dropout passes have nothing to compare; choose 2 or more, 8 for example, or leave them out"
        )
    if runtime not in (None, AUTO, TORCH):
        raise BundleError(f"inference.runtime {runtime} leaves dropout out; choose {TORCH}, or leave --dropout-passes out")


def with_dropout(predictor: Predictor, passes: int) -> tuple[Predictor, ...]:
    """Return a predictor for each pass of each network of a bundle. The passes have different seeds.

    Args:
        predictor: loaded predictor with torch as its runtime.
        passes: number of passes, at least two.

    Raises:
        BundleError: the networks have no dropout.
    """
    predictors: list[Predictor] = []
    for member in predictor.members:
        layers = [layer for layer in member.network.modules() if isinstance(layer, nn.Dropout)]
        if not layers:
            raise BundleError(
                "the network was trained without dropout, so that all passes are equal; train it with model.dropout=0.2, "
                "give several bundles, or leave --dropout-passes out"
            )
        for seed in range(passes):
            predictors.append(
                replace(
                    member,
                    run=DropoutPass(member.run, layers, seed),
                    memory_budget=predictor.memory_budget,
                    identity=f"{predictor.identity} {len(predictors)} of dropout",
                )
            )
    predictors[0] = replace(predictors[0], classifiers=predictor.classifiers)
    return tuple(predictors)
