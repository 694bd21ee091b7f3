"""Bundles into the model store and a Bento; a Bento on another machine; what can't be packaged or served."""

import importlib.metadata
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from servers import (
    CHECKOUT,
    UNET,
    descendants,
    free_port,
    is_running,
    package_code,
    run_python,
    start,
    wait_until,
    write_bundle,
)

from models.errors import BundleError
from service.launch import ServeError, serve
from service.packaging.bento_contents import imports_of
from service.packaging.package import package

SERVE = "from service.launch import ServeError as Error, serve"


def bentoml(environment: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "bentoml", *arguments]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)


def error_said(imports: str, call: str, environment: dict[str, str]) -> str:
    """The message of the `Error` that a call raises in a fresh interpreter."""
    return run_python(f"{imports}\ntry:\n    {call}\nexcept Error as error:\n    print(error)", environment)


def test_nothing_to_package() -> None:
    with pytest.raises(BundleError, match="no bundle; give the bundle/ folder"):
        package([])


def test_not_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle here"):
        package([tmp_path])


@pytest.mark.parametrize("file", ["weights.safetensors", "config.yaml"])
def test_a_changed_bundle_is_refused(tmp_path: Path, file: str) -> None:
    folder = write_bundle(tmp_path / "bundle", "changed", UNET)
    content = bytearray((folder / file).read_bytes())
    content[-1] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(BundleError, match="isn't the file that training wrote"):
        package([folder])


def test_two_bundles_of_one_name(tmp_path: Path) -> None:
    folders = [write_bundle(tmp_path / str(seed), "same", UNET, seed=seed) for seed in range(2)]
    with pytest.raises(BundleError, match=r"two bundles are named same; .* another run\.name"):
        package(folders)


def test_a_name_that_bentoml_doesnt_take(bento_home: Path, environment: dict[str, str], tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", "Long_" + "x" * 57 + "--A", UNET)
    run_python(package_code(folder), environment)
    assert [path.name for path in (bento_home / "models").glob("long*")] == ["long_" + "x" * 57]


def test_the_bento_holds_what_serving_needs(bento: str, bento_home: Path) -> None:
    source = bento_home / "bentos" / bento.replace(":", "/") / "src"
    folders = {path.name for path in source.iterdir() if path.is_dir()}
    assert folders == {"configs", "datasets", "disk", "imaging", "transforms", "models", "inference", "evaluation", "service"}
    assert not list(source.rglob("__pycache__"))
    requirements = (source.parent / "env/python/requirements.txt").read_text().split()
    assert "torch==2.13.0" in requirements
    assert all("==" in requirement for requirement in requirements)


def test_everything_that_the_bento_imports_is_among_its_requirements(bento: str, bento_home: Path) -> None:
    """Those of every function, too; what is imported from our own folders is in the Bento."""
    source = bento_home / "bentos" / bento.replace(":", "/") / "src"
    pinned = (source.parent / "env/python/requirements.txt").read_text().split()
    required = {canonical(requirement.partition("==")[0]) for requirement in pinned}
    known = importlib.metadata.packages_distributions()
    for file in source.rglob("*.py"):
        for name in set(imports_of(file)):
            root = name.partition(".")[0]
            if root in sys.stdlib_module_names or is_own(source, name):
                continue
            assert required & {canonical(each) for each in known.get(root, [])}, f"{file.relative_to(source)} imports {name}"


def canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def is_own(source: Path, name: str) -> bool:
    """Whether a module is in the Bento, or a name that one of its modules may define."""
    path = source.joinpath(*name.split("."))
    above = path.parent
    return (
        path.is_dir()
        or any(each.with_suffix(".py").is_file() for each in (path, above))
        or (above != source and above.is_dir())
    )


def test_the_same_bundle_is_stored_once(
    bento: str, bundles: dict[str, Path], bento_home: Path, environment: dict[str, str]
) -> None:
    before = sorted((bento_home / "models/unet").iterdir())
    again = run_python(package_code(bundles["unet"]), environment)
    assert again.startswith("overtile:")
    assert again != bento
    assert sorted((bento_home / "models/unet").iterdir()) == before


def test_a_bento_moves_to_another_machine_and_ends_with_its_parent(
    environment: dict[str, str], bundles: dict[str, Path], tmp_path: Path
) -> None:
    tag = run_python(package_code(bundles["window"]), environment)
    file = tmp_path / "moved.bento"
    bentoml(environment, "export", tag, str(file))
    other = {**environment, "BENTOML_HOME": str(tmp_path / "home")}
    bentoml(other, "import", str(file))
    process, url = start(tag, other, tmp_path / "log")
    try:
        names = [model["name"] for model in httpx.get(f"{url}/v1/models").json()["models"]]
        workers = descendants(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
    assert names == ["window"]
    assert workers
    wait_until(lambda: not any(is_running(worker) for worker in workers), timeout_s=10)


def test_a_bento_whose_model_was_changed_doesnt_start(environment: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    folder = write_bundle(tmp_path / "bundle", "broken", UNET)
    other = {**environment, "BENTOML_HOME": str(home)}
    tag = run_python(package_code(folder), other)
    (weights,) = home.glob("models/broken/*/bundle/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    said = error_said(
        "from models.errors import BundleError as Error\nfrom service.launch import serve", f"serve({tag!r})", other
    )
    assert "weights.safetensors isn't the file that training wrote" in said


def test_a_server_that_cant_start_ends(bento: str, environment: dict[str, str]) -> None:
    command = [sys.executable, "-c", f"from service.launch import serve\nserve({bento!r}, port={free_port()})"]
    wrong = {**environment, "OVERTILE_MAX_WAITING": "none"}
    done = subprocess.run(command, env=wrong, cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    assert "the server can't start: OVERTILE_MAX_WAITING is 'none'; give a whole number above 0" in done.stderr
    assert done.returncode == 3


def test_a_service_without_a_bento(environment: dict[str, str]) -> None:
    said = error_said("from service.app import Overtile, bento_of\nError = RuntimeError", "bento_of(Overtile)", environment)
    assert said == "no Bento is served; run overtile package BUNDLE, then overtile serve"


def test_no_bento_yet(tmp_path: Path, environment: dict[str, str]) -> None:
    said = error_said(SERVE, "serve()", {**environment, "BENTOML_HOME": str(tmp_path)})
    assert said == "no Bento yet, or without its models; run overtile package BUNDLE first"


def test_a_bento_that_isnt_there(environment: dict[str, str]) -> None:
    said = error_said(SERVE, "serve('none:1')", environment)
    assert said == "no Bento none:1, or without its models; run overtile package BUNDLE first"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5"])
def test_other_machines_need_the_users_word(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTILE_STORE", str(tmp_path))
    with pytest.raises(ServeError, match="leave the host out, or give --without-keys"):
        serve("any", host=host)


def test_a_host_that_is_no_address() -> None:
    with pytest.raises(ServeError, match="host is example; give an IP address"):
        serve("any", host="example")


def test_a_port_that_cant_be() -> None:
    with pytest.raises(ServeError, match="port is 65536; choose one from 1 to 65535"):
        serve("any", port=65536)
