"""Commands as a user without a name, a home or the right to write where others do, as container platforms run them."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.phantom import write_slide_dataset
from tests.service.servers import UNET, write_bundle

CHECKOUT = Path(__file__).parents[1]
UID = 3_000_000_017  # in no user database
# The user may read everything, because the interpreter or the checkout may lie in root's home.
READS_ALL = [f"--{kind}=-all,+dac_read_search" for kind in ("bounding-set", "inh-caps", "ambient-caps")]
SET_USER = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs", *READS_ALL]

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can start a command as another user, with setpriv"
)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Folder that every user can read, made with the usual umask, which other tests of the process may change."""
    umask = os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="overtile-any-user-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
    os.umask(umask)


@pytest.fixture
def folder(place: Path) -> Path:
    """Folder of the user, in which the commands run."""
    folder = Path(tempfile.mkdtemp(dir=place))
    os.chown(folder, UID, UID)
    return folder


@pytest.fixture(scope="module")
def bundle(place: Path) -> Path:
    """Bundle that nobody may write to."""
    bundle = write_bundle(place / "bundle", "readonly", UNET)
    for path in [*bundle.rglob("*"), bundle]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return bundle


@pytest.fixture
def full_disk(place: Path) -> Iterator[Path]:
    """Folder of everybody on a disk without a free byte."""
    folder = place / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=777", "none", str(folder)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        (folder / "content").write_bytes(bytes(64 * 1024))
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


def overtile(folder: Path, *words: object, **variables: object) -> "subprocess.CompletedProcess[str]":
    """Run a command in a folder, with the named variables and no others of the user's."""
    command = [*SET_USER, sys.executable, "-m", "overtile", *map(str, words)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    environment |= {name: str(value) for name, value in variables.items()}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False)


def test_a_user_without_name_and_home_plans(folder: Path, place: Path) -> None:
    """MONAI asks for the user's name at import."""
    data = write_slide_dataset(place / "data", cases=3, shape=(64, 64), splits=("train", "val", "test")).parent
    done = overtile(folder, "plan", data, "-o", "plan.yaml")
    assert done.returncode == 0, done.stderr
    assert "matplotlib" not in done.stderr.lower()  # it warns about caches that it can't write
    assert [path.name for path in folder.iterdir()] == ["plan.yaml"]


@pytest.mark.parametrize("home", [None, "", "~", "/nonexistent", "/"])
def test_keys_without_a_home_that_can_be_written(folder: Path, home: str | None) -> None:
    variables = {} if home is None else {"HOME": home}
    refused = overtile(folder, "keys", "add", "ada", **variables)
    assert refused.returncode == 6
    assert "; set OVERTILE_STORE to a folder that you can write to" in refused.stderr
    assert list(folder.iterdir()) == []
    added = overtile(folder, "keys", "add", "ada", OVERTILE_STORE=folder / "store", **variables)
    assert added.returncode == 0, added.stderr


def test_packages_go_where_the_user_can_write(folder: Path, bundle: Path) -> None:
    refused = overtile(folder, "package", bundle)
    assert (refused.returncode, "; set BENTOML_HOME to a folder" in refused.stderr) == (6, True)
    assert list(folder.iterdir()) == []  # BentoML itself would make a folder named ~
    served = overtile(folder, "serve")
    assert (served.returncode, "; set OVERTILE_STORE to a folder" in served.stderr) == (6, True)
    served = overtile(folder, "serve", HOME="/nonexistent")
    assert (served.returncode, "; set BENTOML_HOME to a folder" in served.stderr) == (6, True)


def test_a_bundle_that_is_read_only_is_packaged_for_other_users(folder: Path, bundle: Path) -> None:
    packaged = overtile(folder, "package", bundle, BENTOML_HOME=folder / "bentoml")
    assert packaged.returncode == 0, packaged.stderr
    copies = [path for path in (folder / "bentoml").rglob("*") if path.is_dir()]
    assert {oct(path.stat().st_mode & 0o777) for path in copies} == {"0o755"}


def test_a_full_home(folder: Path, full_disk: Path, bundle: Path) -> None:
    key = overtile(folder, "keys", "add", "ada", HOME=full_disk)
    package = overtile(folder, "package", bundle, HOME=full_disk)
    for refused, variable, name in ((key, "OVERTILE_STORE", ".overtile"), (package, "BENTOML_HOME", "bentoml")):
        assert refused.returncode == 6
        assert f"{full_disk}/{name} can't be written: " in refused.stderr
        assert "No space left on device" in refused.stderr
        assert f"; set {variable} to a folder that you can write to" in refused.stderr
    # without room for caches and temporary files
    sent = overtile(folder, "client", "models", "--url", "http://127.0.0.1:9", HOME=full_disk, TMPDIR=full_disk)
    assert sent.returncode == 6
    assert f"note: TMPDIR={full_disk} can't be written, or is full; temporary files go to /tmp" in sent.stderr
    assert "no server answers" in sent.stderr


def test_the_client_needs_no_home(folder: Path) -> None:
    sent = overtile(folder, "client", "models", "--url", "http://127.0.0.1:9")
    assert (sent.returncode, "no server answers" in sent.stderr) == (6, True), sent.stderr
