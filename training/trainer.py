"""The Lightning trainer of a session, with its callbacks in the order in which they act."""

import pytorch_lightning as lightning
from pytorch_lightning.callbacks import EarlyStopping

from training.calibration import calibration_validations
from training.data.hard_negatives import HardNegatives
from training.data.stream import PatchStream
from training.distributed import BroadcastBuffers
from training.monitoring.monitor import RunMonitor
from training.monitoring.progress_bar import TrainingProgressBar
from training.monitoring.tensorboard_log import RunLogger
from training.objective.scoring import make_score
from training.optimization.averaging import Averaging
from training.optimization.precision import precision_of
from training.optimization.schedule import RateSchedule
from training.publishing import BEST_WEIGHTS
from training.resuming.recovery import FiniteGuard
from training.resuming.saving import Reseed, RunScheduler, SaveBest
from training.session import Session
from training.validation_scores import SCORING_VALIDATIONS


def make_trainer(session: Session, stream: PatchStream, monitor: RunMonitor) -> lightning.Trainer:
    """Build the trainer that fits on the batches of `stream`; `RunScheduler` decides when it validates, saves and ends."""
    config = session.config
    return lightning.Trainer(
        accelerator="gpu" if session.device.type == "cuda" else "cpu",
        devices=config.trainer.devices,
        num_nodes=session.processes.nodes,
        strategy="ddp" if session.processes.size > 1 else "auto",
        use_distributed_sampler=False,
        precision=precision_of(config, session.device),
        max_epochs=1,
        accumulate_grad_batches=config.optimizer.accumulate,
        gradient_clip_val=config.optimizer.clip_norm,
        val_check_interval=1,  # RunScheduler sets it
        check_val_every_n_epoch=None,
        log_every_n_steps=min(10, config.trainer.validate_every_steps, config.trainer.max_steps),
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=_callbacks(session, stream, monitor),
        plugins=[session.checkpoints],
        logger=RunLogger(session.folder, session.console),
    )


def _callbacks(session: Session, stream: PatchStream, monitor: RunMonitor) -> list[lightning.Callback]:
    config, section, splits = session.config, session.config.trainer, session.examined.splits
    score = make_score(config).name
    schedule = RateSchedule(config, session.clock)
    return [
        TrainingProgressBar(session.console, config.run.name, section.max_steps, score),
        monitor,
        Reseed(config.run.seed),
        schedule,
        FiniteGuard(config, schedule, session.recovery.scale),
        Averaging(config),
        BroadcastBuffers(),
        HardNegatives(splits.train, session.sampler, config, session.statistics, len(splits.val)),
        EarlyStopping(
            score, mode="max", patience=section.patience, strict=False, check_finite=False, check_on_train_epoch_end=False
        ),
        SaveBest(session.checkpoints.folder / BEST_WEIGHTS, score),
        *session.callbacks,
        RunScheduler(  # last, so that it saves the state of all others
            config,
            stream,
            session.clock,
            session.signals,
            later_validations=calibration_validations(config, len(splits.val)) + SCORING_VALIDATIONS,
        ),
    ]
