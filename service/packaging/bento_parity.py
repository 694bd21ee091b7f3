"""Whether a built Bento answers its bundles' samples as the networks did that were trained; else it isn't kept.

The Bento is asked in a process of its own, which has the Bento's code and none of the checkout's, and which loads the bundles
from the model store as a server does: what isn't in the Bento isn't there.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import BundleError

if TYPE_CHECKING:
    from inference.predictors.runtime_parity import RuntimeParity

SERVICE = "service.app"  # what a server imports first
TIMEOUT_S = 1800.0  # a deep network is tried with every runtime that there is
OURS = ("configs", "datasets", "disk", "evaluation", "imaging", "inference", "models", "service", "training", "transforms")

Trials = dict[str, "RuntimeParity | None"]  # model -> how it did; None where its bundle has no sample


def check_bento(bento: Any) -> Trials:
    """How each model of a BentoML Bento does on its bundle's sample, served as the bundle's config says.

    Raises:
        BundleError: a model answers otherwise, or the Bento's code doesn't come so far as to answer.
    """
    trials = _asked(str(bento.tag), Path(bento.path_of("src")))
    failed = [f"{name}: {trial.text}" for name, trial in trials.items() if trial and not trial.is_admitted]
    if failed:
        raise BundleError(
            f"{'; '.join(failed)}: the Bento doesn't reproduce what training validated, and nothing was kept of it; "
            "package with the versions in the bundle's manifest.json, choose another inference.runtime, or train again"
        )
    return trials


def text_of(name: str, trial: "RuntimeParity | None") -> str:
    """In a line."""
    if trial:
        return f"{name}: reproduces its sample with {trial.text}"
    return f"{name}: warning: not compared with anything, its bundle holds no sample; train again to have one"


def _asked(tag: str, source: Path) -> Trials:
    environment = {**os.environ, "PYTHONPATH": str(source), "BENTOML_DO_NOT_TRACK": "True"}
    with tempfile.TemporaryDirectory(prefix="overtile-parity-") as folder:
        answers = Path(folder) / "answers.json"
        command = [sys.executable, "-P", "-m", "service.packaging.bento_parity", tag, str(answers)]
        try:
            subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
        except subprocess.SubprocessError as error:
            raise BundleError(
                f"the Bento can't be served, and nothing was kept of it: {_reason(error)}; "
                "set Overtile up anew, or package with the versions in the bundle's manifest.json"
            ) from error
        return _read(json.loads(answers.read_text()))


def _reason(error: subprocess.SubprocessError) -> str:
    """The last line of what the process said, which is Python's name of the error and its text."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {TIMEOUT_S:.0f} s"
    said = str(getattr(error, "stderr", "") or "").strip()
    return said.splitlines()[-1] if said else str(error)


def _read(answers: Mapping[str, Mapping[str, Any] | None]) -> Trials:
    from inference.predictors.runtime_parity import RuntimeParity

    return {name: RuntimeParity(**values) if values else None for name, values in answers.items()}


def _answer(tag: str) -> Trials:
    """In the new process."""
    import bentoml

    from inference.predictors.loading import load_predictor
    from inference.predictors.runtime_parity import measure_predictor
    from models.bundle import load
    from service.packaging.model_store import bundle_folders

    importlib.import_module(SERVICE)
    trials: Trials = {}
    for folder in bundle_folders(bentoml.bentos.get(tag)).values():
        bundle = load(folder)
        predictor = load_predictor(bundle)
        trials[bundle.manifest.name] = measure_predictor(predictor, bundle.sample) if bundle.sample else None
    _check_own_code()
    return trials


def _check_own_code() -> None:
    """Python also finds what is installed, which isn't there where the Bento is served.

    Raises:
        RuntimeError: a module of ours isn't the Bento's.
    """
    source = Path(__file__).resolve().parents[2]
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in OURS and file and not Path(file).resolve().is_relative_to(source):
            raise RuntimeError(f"{name} comes from {file}, it isn't in the Bento")


def _main(tag: str, answers: str) -> None:
    """A child of `check_bento`."""
    trials = _answer(tag)
    Path(answers).write_text(json.dumps({name: trial and asdict(trial) for name, trial in trials.items()}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
