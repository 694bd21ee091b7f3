"""A Bento is kept only where it gives, served, what its bundles' samples say; whatever else happens, nothing stays."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sampled import UNET, WINDOW, write_sampled, write_sampled_ensemble
from servers import CHECKOUT, run_python, write_bundle
from typer.testing import CliRunner, Result

from disk.digest import sha256_of_file
from inference.predictors.runtime_parity import RuntimeParity
from overtile import app
from service.packaging import bento_parity
from service.packaging.bento_parity import text_of


@dataclass(frozen=True)
class Packaged:
    """What `overtile package` did in a store of its own."""

    home: Path
    folders: dict[str, Path]
    code: int
    said: str


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Packaged:
    folder = tmp_path_factory.mktemp("packaged")
    unet = write_sampled(folder / "unet", "unet", UNET, inference={"runtime": "openvino"})
    windows = [write_sampled(folder / name, name, WINDOW, seed=seed) for seed, name in enumerate(("one", "two"))]
    folders = {
        "unet": unet,
        "both": write_sampled_ensemble(folder / "both", "both", windows, windows[0]),
        "old": write_bundle(folder / "old", "old", UNET),
    }
    code, said = overtile_package(folder / "home", *folders.values())
    return Packaged(folder / "home", folders, code, said)


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "BENTOML_HOME": str(home), "OMP_NUM_THREADS": "1"}


def overtile_package(home: Path, *folders: Path) -> tuple[int, str]:
    """The command's exit code and what it said, in a fresh process: BentoML looks for its stores once."""
    command = [sys.executable, "-m", "overtile", "package", *map(str, folders)]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment(home), capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stderr


def stored(home: Path) -> list[str]:
    """What is in the stores of Bentos and models, and what BentoML takes for the newest of each."""
    kept = sorted(str(path.relative_to(home)) for store in ("bentos", "models") for path in home.glob(f"{store}/*/*/"))
    return kept + sorted(f"newest {path.parent.name} {path.read_text()}" for path in home.glob("*/*/latest"))


def test_what_a_bento_reproduces_is_said(packaged: Packaged) -> None:
    """Whatever runs it; and what can't be compared with anything is said, too."""
    assert packaged.code == 0, packaged.said
    lines = packaged.said.splitlines()
    assert lines[0].startswith("overtile:")
    assert lines[1].startswith("unet: reproduces its sample with openvino: 100.0000% of pixels alike, off by ")
    assert lines[2].startswith("both: reproduces its sample with torch: 100.0000% of pixels alike, off by ")
    assert lines[3] == "old: warning: not compared with anything, its bundle holds no sample; train again to have one"
    card = Path(lines[4].removeprefix("model cards: ")).read_text()
    assert [line for line in card.splitlines() if line.startswith("# ")] == ["# unet", "# both", "# old"]
    assert "openvino: 100.0000% of pixels alike" in card
    assert [Path(path).parts[:2] for path in stored(packaged.home)][:4] == [
        ("bentos", "overtile"),
        ("models", "both"),
        ("models", "old"),
        ("models", "unet"),
    ]


def test_nothing_stays_of_a_bento_that_answers_otherwise(packaged: Packaged, tmp_path: Path) -> None:
    """But models that were there before."""
    before = stored(packaged.home)
    bad = write_sampled(tmp_path / "bad", "bad", WINDOW, spoilt=3.0)
    code, said = overtile_package(packaged.home, packaged.folders["unet"], bad)
    assert code == 2
    assert said.startswith("bad: torch: ")
    assert "% of pixels alike, off by 0." in said
    assert "the Bento doesn't reproduce what training validated, and nothing was kept of it" in said
    assert "choose another inference.runtime, or train again" in said
    assert stored(packaged.home) == before


def test_nothing_stays_of_a_bento_that_cant_be_served(packaged: Packaged, tmp_path: Path) -> None:
    """Here a sample that is too small for the network."""
    before = stored(packaged.home)
    folder = write_sampled(tmp_path / "small", "small", UNET)
    sample = load_file(folder / "sample.safetensors")
    save_file({**sample, "patches": torch.zeros(1, 3, 1, 1)}, folder / "sample.safetensors")
    sign_anew(folder)
    code, said = overtile_package(packaged.home, folder)
    assert code == 2
    assert said.startswith("the Bento can't be served, and nothing was kept of it: RuntimeError: ")
    assert "set Overtile up anew, or package with the versions in the bundle's manifest.json" in said
    assert stored(packaged.home) == before


def test_a_bento_that_lacks_a_module_isnt_kept(packaged: Packaged) -> None:
    """The module is in the checkout, and may be installed; only the Bento's folder counts."""
    before = stored(packaged.home)
    code = f"""
from pathlib import Path
from models.errors import BundleError
from service.packaging import package
from service.packaging import bento_contents
bento_contents.WHOLE = tuple(root for root in bento_contents.WHOLE if root != "imaging")
try:
    package.package([Path({str(packaged.folders["unet"])!r})])
except BundleError as error:
    print(str(error).splitlines()[-1])
"""
    said = run_python(code, environment(packaged.home))
    assert said.startswith("the Bento can't be served, and nothing was kept of it: ")
    assert "imaging" in said
    assert stored(packaged.home) == before


def test_values_and_labels_in_a_line() -> None:
    parity = RuntimeParity("openvino", 0.99951, 0.0123, 0.0105)
    assert text_of("a", parity) == (
        "a: reproduces its sample with openvino: 99.9510% of pixels alike, off by 0.012 at most, 10.5 ms a pass"
    )
    assert text_of("a", None).startswith("a: warning: ")


def test_no_answer_in_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bento_parity, "TIMEOUT_S", 0.01)
    with pytest.raises(bento_parity.BundleError, match=r"nothing was kept of it: no answer within 0 s; set Overtile up anew"):
        bento_parity.check_bento(Bento(tmp_path))


class Bento:
    """As much of BentoML's as is asked."""

    tag = "overtile:none"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path_of(self, name: str) -> str:
        return str(self.folder / name)


class Canary:
    """Whoever unpickles it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


def sign_anew(folder: Path, **facts: Any) -> None:
    """As somebody would who knows the format."""
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {path.name: sha256_of_file(path) for path in folder.iterdir() if path.name != "manifest.json"}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "files": files, **facts}))


def _flip(name: str) -> Callable[[Path, Path], None]:
    def flip(folder: Path, canary: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return flip


def _checkpoint(folder: Path, canary: Path) -> None:
    torch.save(Canary(canary), folder / "last.ckpt")


def _pickled_weights(folder: Path, canary: Path) -> None:
    (folder / "weights.safetensors").write_bytes(pickle.dumps(Canary(canary)))
    sign_anew(folder)


def _linked_file(folder: Path, canary: Path) -> None:
    elsewhere = folder.rename(folder.with_name("elsewhere"))
    folder.mkdir()
    for path in elsewhere.iterdir():
        (folder / path.name).symlink_to(path)


def _linked_folder(folder: Path, canary: Path) -> None:
    folder.symlink_to(folder.rename(folder.with_name("elsewhere")))


def _no_numbers(folder: Path, canary: Path) -> None:
    weights = load_file(folder / "weights.safetensors")
    weights["head.bias"][0] = torch.nan
    save_file(weights, folder / "weights.safetensors")
    sign_anew(folder)


def _other_shapes(folder: Path, canary: Path) -> None:
    weights = load_file(folder / "weights.safetensors")
    save_file({**weights, "head.bias": torch.zeros(9)}, folder / "weights.safetensors")
    sign_anew(folder)


def _named(name: str) -> Callable[[Path, Path], None]:
    return lambda folder, canary: sign_anew(folder, name=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_flip("weights.safetensors"), "weights.safetensors isn't the file that training wrote; copy the bundle again"),
        (_flip("sample.safetensors"), "sample.safetensors isn't the file that training wrote; copy the bundle again"),
        (_flip("config.yaml"), "config.yaml isn't the file that training wrote; copy the bundle again"),
        (_checkpoint, "expected exactly"),
        (_pickled_weights, "the weights don't fit the config's network; train again"),
        (_linked_file, "the folder or its manifest.json is a link; give the folder that training wrote"),
        (_linked_folder, "the folder or its manifest.json is a link; give the folder that training wrote"),
        (_no_numbers, "head.bias holds NaN or infinite values; train again"),
        (_other_shapes, "the weights don't fit the config's network; train again"),
        (_named("../x"), "manifest.json isn't of format 1 to 4"),
        (_named("a/b"), "manifest.json isn't of format 1 to 4"),
        (_named(""), "manifest.json isn't of format 1 to 4"),
        (_named("x" * 10_000), "manifest.json isn't of format 1 to 4"),
    ],
)
def test_what_isnt_a_bundle_isnt_packaged(tmp_path: Path, change: Callable[[Path, Path], None], message: str) -> None:
    folder, canary = write_sampled(tmp_path / "bundle", "unet", UNET), tmp_path / "canary"
    change(folder, canary)
    for more in ((), ("--export", str(tmp_path / "out"), "--author", "Ada")):
        done: Result = CliRunner().invoke(app, ["package", str(folder), *more])
        assert done.exit_code == 2, done.output
        assert message in done.output.replace("\n", " ")
    assert not canary.exists()
    assert not (tmp_path / "out").exists()
