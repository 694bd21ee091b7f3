"""Files that a process of its own has open: what comes out is the same, and when that process goes, nothing else does."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from imaging.errors import DataError, ImageTooLarge, UnsuitableImage
from imaging.guards import LOCAL, UPLOAD
from imaging.isolation.forkserver import Forkserver
from imaging.isolation.isolated_source import IsolatedSource
from imaging.open import open_image
from tests.corpus.nifti_bytes import nifti, zeros_gzip
from tests.phantom import draw_slide, write_pyramid_slide

CHECKOUT = Path(__file__).parents[3]
CORNER = (slice(0, 1),) * 3


def write_picture(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3)).astype(np.uint8)).save(path, "png")


def write_volume(path):
    path.write_bytes(nifti(order=">", scl_slope=0.3, srow_x=(0.1, 0, 0, 1 / 3), sform_code=0, qform_code=0))


def write_slide(path):
    write_pyramid_slide(path, draw_slide((600, 700), seed=0)[0], spacing_um=0.5)


@pytest.fixture(params=[write_picture, write_volume, write_slide], ids=["picture", "volume", "slide"])
def path(request, tmp_path):
    request.param(tmp_path / "image")
    return tmp_path / "image"


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume.nii"
    path.write_bytes(nifti())
    return path


def whole(source, level=0):
    return source.read(tuple(slice(0, size) for size in source.levels[level].shape), level)


def is_running(process_id):
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def wait_for_the_end(*process_ids):
    wait_until(lambda: not any(is_running(process_id) for process_id in process_ids))


def refused(source):
    with pytest.raises(UnsuitableImage) as caught:
        source.read(CORNER)
    return caught.value


def test_it_is_what_the_files_own_reader_says(path):
    with open_image(path) as local, open_image(path, guards=UPLOAD) as source:
        assert isinstance(source, IsolatedSource)
        for name in ("geometry", "channels", "dtype", "levels", "mask_format", "held_bytes", "warnings", "spacing_um"):
            assert getattr(source, name) == getattr(local, name)
        np.testing.assert_array_equal(source.geometry.affine, local.geometry.affine)
        for level in range(len(local.levels)):
            np.testing.assert_array_equal(whole(source, level), whole(local, level))


@pytest.mark.parametrize("read_bytes", [1, 1000, 10**4])
def test_large_regions_come_in_parts(path, read_bytes):
    guards = replace(UPLOAD, process_read_bytes=max(read_bytes, 1 if path.stat().st_size < 2000 else 10**4))
    with open_image(path) as local, open_image(path, guards=guards) as source:
        np.testing.assert_array_equal(whole(source), whole(local))
        np.testing.assert_array_equal(np.concatenate(list(source.blocks(999)), axis=1), whole(local))


def test_labels_and_the_users_spacing_go_with_it(tmp_path):
    image = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2))
    image.putpalette([9] * 768)
    image.save(tmp_path / "mask", "png")
    with open_image(tmp_path / "mask", guards=UPLOAD, labels=True, spacing_um=(0.5,)) as source:
        assert whole(source).tolist() == [[[0, 1], [2, 3]]]
        assert source.spacing_um == (0.5, 0.5)


def test_a_spacing_that_cant_be_leaves_no_process(volume):
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(UnsuitableImage, match="a volume whose file has its own"):
        open_image(volume, guards=UPLOAD, spacing_um=(1.0,))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2  # the waiting process's, if this is its first file


def test_errors_come_as_they_are(volume, tmp_path):
    with pytest.raises(DataError, match="the file doesn't exist; check the path") as caught:
        open_image(tmp_path / "none", guards=UPLOAD)
    assert (type(caught.value), caught.value.code) == (DataError, "file_missing")
    with pytest.raises(ImageTooLarge, match="210 voxels, but at most 9 are allowed") as caught:
        open_image(volume, guards=replace(UPLOAD, max_pixels=9))
    assert caught.value.limit == 9


def test_a_relative_path_is_meant_from_here(volume, monkeypatch):
    monkeypatch.chdir(volume.parent)
    with open_image(Path("volume.nii"), guards=UPLOAD) as source:
        assert source.channels == 1


def test_closing_ends_the_process(volume):
    sources = [open_image(volume, guards=UPLOAD) for _ in range(3)]
    assert all(is_running(source.process_id) for source in sources)
    for source in sources:
        source.close()
        source.close()
    wait_for_the_end(*(source.process_id for source in sources))
    assert refused(sources[0]).code == "image_reader_crashed"


def test_nothing_stays_open(volume):
    open_image(volume, guards=UPLOAD).close()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        open_image(volume, guards=UPLOAD).close()
        with pytest.raises(DataError):
            open_image(volume.parent, guards=UPLOAD)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV])
def test_a_reader_that_dies_is_known_and_not_asked_again(volume, how):
    with open_image(volume, guards=UPLOAD) as other, open_image(volume, guards=UPLOAD) as source:
        os.kill(source.process_id, how)
        assert refused(source).code == "image_reader_crashed"
        assert refused(source).code == "image_reader_crashed"
        np.testing.assert_array_equal(whole(other), whole(open_image(volume)))
    with open_image(volume, guards=UPLOAD) as again:
        assert again.shape == (7, 6, 5)


def test_a_reader_that_hangs_is_ended(volume):
    with open_image(volume, guards=replace(UPLOAD, process_timeout_s=0.3)) as source:
        whole(source)
        os.kill(source.process_id, signal.SIGSTOP)
        error = refused(source)
        wait_for_the_end(source.process_id)
    assert re.search(r"crashed, needs more than 6442450944 bytes of memory or takes more than 0\.3 s;", error.message)
    assert error.message.endswith("export the image again, or cut it into parts")


def test_a_bomb_in_memory_ends_its_reader_alone(tmp_path):
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(zeros_gzip(nifti(dim=(3, 1024, 512, 1024, 1, 1, 1, 1), datatype=2, body=b""), 352 + 2**29))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open_image(path, guards=replace(UPLOAD, max_gzip_ratio=None, process_memory_bytes=2**29)) as source:
        assert refused(source).code == "image_reader_crashed"
        wait_for_the_end(source.process_id)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024  # KiB


def test_a_reader_has_so_much_processor_time(tmp_path):
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(zeros_gzip(nifti(dim=(3, 2048, 1024, 1024, 1, 1, 1, 1), datatype=2, body=b""), 352 + 2**31))
    guards = replace(UPLOAD, max_pixels=2**31, max_gzip_ratio=None)
    with open_image(path, guards=replace(guards, process_cpu_s=1)) as source:
        assert refused(source).code == "image_reader_crashed"
        wait_for_the_end(source.process_id)


def test_a_reader_may_do_little(volume):
    with open_image(volume, guards=UPLOAD) as source:
        whole(source)
        process = Path(f"/proc/{source.process_id}")
        limits, status = (process / "limits").read_text(), (process / "status").read_text()
        libraries = (process / "maps").read_text()
    for name, value in {
        "Max file size": 0,
        "Max core file size": 0,
        "Max open files": 256,
        "Max address space": UPLOAD.process_memory_bytes,
    }.items():
        assert re.search(rf"{name}\s+{value}\s+{value}\s", limits), name
    assert re.search(r"NoNewPrivs:\s+1\n", status)
    assert re.search(r"Threads:\s+1\n", status)
    assert "libtorch" not in libraries


def test_a_reader_knows_no_secret(volume, tmp_path):
    code = (
        "from pathlib import Path; from imaging.open import open_image; from imaging.guards import UPLOAD\n"
        f"with open_image(Path({str(volume)!r}), guards=UPLOAD) as source:\n"
        "    print(Path(f'/proc/{source.process_id}/environ').read_text().count('secret'))"
    )
    assert run(code, {**os.environ, "OVERTILE_KEY": "secret"}).stdout == "0\n"


def run(code, environment=None):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("last", ["", "os.kill(source.process_id, signal.SIGSTOP)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_readers_end_with_the_program(volume, last):
    code = (
        "import os, signal; from pathlib import Path; from imaging.open import open_image; from imaging.guards import UPLOAD\n"
        f"source = open_image(Path({str(volume)!r}), guards=UPLOAD)\n"
        "status = Path(f'/proc/{source.process_id}/status').read_text()\n"
        "print(source.process_id, status.split('PPid:')[1].split()[0], flush=True)\n" + last
    )
    done = run(code)
    assert done.stderr == ""
    wait_for_the_end(*(int(process_id) for process_id in done.stdout.split()))


def parent_of(process_id):
    return int(Path(f"/proc/{process_id}/status").read_text().split("PPid:")[1].split()[0])


def test_the_process_that_forks_is_started_again_when_it_was_ended(volume):
    with open_image(volume, guards=UPLOAD) as source:
        forking = parent_of(source.process_id)
        os.kill(forking, signal.SIGKILL)
        wait_for_the_end(source.process_id)  # its readers went with it
        assert refused(source).code == "image_reader_crashed"
    with open_image(volume, guards=UPLOAD) as source:
        assert whole(source).shape == (1, 7, 6, 5)
        assert parent_of(source.process_id) != forking


def test_an_installation_that_cant_start_processes_says_so(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="doesn't start; see its message on standard error"):
        Forkserver().fork()


def test_threads_may_share_a_source(volume):
    with open_image(volume, guards=UPLOAD) as source, open_image(volume, guards=LOCAL) as local:
        with ThreadPoolExecutor(4) as threads:
            rows = list(
                threads.map(lambda row: source.read((slice(row % 7, row % 7 + 1), slice(0, 6), slice(0, 5))), range(100))
            )
        for row, pixels in enumerate(rows):
            np.testing.assert_array_equal(pixels[0, 0], whole(local)[0, row % 7])


def test_threads_may_open_at_once(volume):
    def read(_):
        with open_image(volume, guards=UPLOAD) as source:
            return int(whole(source).sum())

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(read, range(24)))) == 1


def test_warnings_that_only_the_voxels_tell_come_with_them(tmp_path):
    nib.Nifti1Image(np.full((3, 4, 5), 7, np.uint8), np.eye(4)).to_filename(tmp_path / "v.nii")
    with open_image(tmp_path / "v.nii", guards=UPLOAD) as source:
        assert source.warnings == ()
        whole(source)
        assert source.warnings == ("constant_image",)
