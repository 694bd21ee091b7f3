"""Memory of processes, and children that end with their parent."""

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from disk.process import peak_resident_bytes, reset_peak, resident_bytes

CHILD = """
import os, sys, time
from disk.process import end_with_parent
end_with_parent(os.getppid())
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdout=subprocess.PIPE)
print(child.stdout.readline().decode(), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is reset through /proc")
def test_peak_remembers_memory_that_was_freed():
    reset_peak()
    before = resident_bytes()
    with mmap.mmap(-1, 2**25) as memory:  # not from the heap, which may reuse freed memory
        for page in range(0, len(memory), mmap.PAGESIZE):
            memory[page] = 1
    assert peak_resident_bytes() - before >= 2**24
    reset_peak()
    assert peak_resident_bytes() - before < 2**24
    assert resident_bytes(os.getpid()) > 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="a signal of Linux")
def test_child_is_killed_when_its_parent_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


@pytest.mark.skipif(sys.platform != "linux", reason="a signal of Linux")
def test_child_of_a_parent_that_ended_before_is_an_error():
    code = "from disk.process import end_with_parent; end_with_parent(2**22 + 1)"
    end = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ProcessLookupError: The parent process has ended." in end.stderr


def is_running(process_id):
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
