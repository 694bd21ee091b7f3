"""Parity check of a Bento: it is kept only when it reproduces the logits that training stored as each bundle's sample.

The check runs in a child process, which imports the Bento's code and none of the checkout's, and which loads the bundles
from the model store as a server does, so that it fails on everything that the Bento lacks.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import BundleError

if TYPE_CHECKING:
    from inference.predictors.runtime_parity import RuntimeParity

SERVICE = "service.app"  # module that a server imports first
TIMEOUT_S = 1800.0  # a deep network is tried with every runtime
OVERTILE_ROOTS = (
    "configs",
    "datasets",
    "disk",
    "evaluation",
    "imaging",
    "inference",
    "models",
    "service",
    "training",
    "transforms",
)

ParityResults = dict[str, "RuntimeParity | None"]  # by the model's name; None where its bundle has no sample


def check_bento(bento: Any) -> ParityResults:
    """Run each model of a BentoML Bento on its bundle's sample, with the runtime that the bundle's config names.

    Raises:
        BundleError: a model doesn't reproduce its sample, or the Bento's code fails before.
    """
    results = _run_child(str(bento.tag), Path(bento.path_of("src")))
    failures = [f"{name}: {parity.text}" for name, parity in results.items() if parity and not parity.is_admitted]
    if failures:
        raise BundleError(
            f"{'; '.join(failures)}: the Bento doesn't reproduce what training validated, and nothing was kept of it; "
            "package with the versions in the bundle's manifest.json, choose another inference.runtime, or train again"
        )
    return results


def text_of(name: str, parity: "RuntimeParity | None") -> str:
    """Return the result as one line for the user."""
    if parity:
        return f"{name}: reproduces its sample with {parity.text}"
    return f"{name}: warning: not compared with anything, its bundle holds no sample; train again to have one"


def _run_child(tag: str, source: Path) -> ParityResults:
    """Return what the child process reports that imports from `source`.

    Raises:
        BundleError: the process fails, or reports nothing within `TIMEOUT_S`.
    """
    from inference.predictors.runtime_parity import RuntimeParity

    environment = {**os.environ, "PYTHONPATH": str(source), "BENTOML_DO_NOT_TRACK": "True"}
    with tempfile.TemporaryDirectory(prefix="overtile-parity-") as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-P", "-m", "service.packaging.bento_parity", tag, str(report)]
        try:
            subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
        except subprocess.SubprocessError as error:
            stderr = str(getattr(error, "stderr", "") or "").strip()
            reason = stderr.splitlines()[-1] if stderr else str(error)  # the last line names the exception and its message
            if isinstance(error, subprocess.TimeoutExpired):
                reason = f"no answer within {TIMEOUT_S:.0f} s"
            raise BundleError(
                f"the Bento can't be served, and nothing was kept of it: {reason}; "
                "set Overtile up anew, or package with the versions in the bundle's manifest.json"
            ) from error
        results = json.loads(report.read_text())
    return {name: RuntimeParity(**values) if values else None for name, values in results.items()}


def _child(tag: str, report: Path) -> None:
    """Run all models on their samples, in the child process, and write the results to the report.

    Raises:
        RuntimeError: a module of Overtile was imported from an installed copy, which a server lacks, and not from the Bento.
    """
    import bentoml

    from inference.predictors.loading import load_predictor
    from inference.predictors.runtime_parity import measure_predictor
    from models.bundle import load
    from service.packaging.model_store import bundle_folders

    importlib.import_module(SERVICE)
    results: ParityResults = {}
    for folder in bundle_folders(bentoml.bentos.get(tag)).values():
        bundle = load(folder)
        predictor = load_predictor(bundle)
        results[bundle.manifest.name] = measure_predictor(predictor, bundle.sample) if bundle.sample else None
    source = Path(__file__).resolve().parents[2]
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in OVERTILE_ROOTS and file and not Path(file).resolve().is_relative_to(source):
            raise RuntimeError(f"{name} comes from {file}, it isn't in the Bento")
    report.write_text(json.dumps({name: parity and asdict(parity) for name, parity in results.items()}))


if __name__ == "__main__":
    _child(sys.argv[1], Path(sys.argv[2]))
