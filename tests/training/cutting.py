"""Patches of a config by their number in the run, cut without training."""

from configs.schema import Config
from training.data.open_cases import open_training_image
from training.data.patch_dataset import PatchDataset, TrainingPatch
from training.data.sampling import PatchSampler, index_labels
from training.data.splitting import split_cases
from training.data.stream import PatchBatchSampler


class Patches:
    """Data set whose item i is patch i of a run with a config."""

    def __init__(self, config: Config) -> None:
        self.cases = split_cases(config.data, 0).train
        classes = len(config.data.classes)
        indices = [index_labels(open_training_image(case, config).labels, classes, 0) for case in self.cases]
        self.draws = PatchBatchSampler(PatchSampler(indices, config), config)
        self.dataset = PatchDataset(self.cases, config)

    def __getitem__(self, index: int) -> TrainingPatch:
        return self.dataset[self.draws.draw_location(index)]
