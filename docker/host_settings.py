"""Network settings of this machine that a build needs: its resolver, certificates and pip's configuration."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

# another name than Debian's own file, which packages of the stage write
CERTIFICATES = "/run/host-certificates.pem"


def host_environment() -> dict[str, str]:
    """Return the variables that configure pip and proxies."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.lower().endswith("_proxy")}
    return {**settings, **({"PIP_CERT": CERTIFICATES} if _certificates() else {})}


def host_mounts(root: Path) -> list[str]:
    """Return the shell commands that mount the resolver, certificates and settings of pip in the root, read-only."""
    targets = {path: root / str(path).lstrip("/") for path in [Path("/etc/resolv.conf"), Path("/etc/hosts"), *_pip_paths()]}
    if certificates := _certificates():
        targets[certificates] = root / CERTIFICATES.lstrip("/")
    return [command for path, target in targets.items() for command in _mount_read_only(path.resolve(), target)]


def _mount_read_only(path: Path, target: Path) -> list[str]:
    """Create the target, and return the shell commands that mount the path there."""
    if path.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # a broken link
        target.touch()
    quoted = shlex.quote(str(target))
    return [f"mount --bind {shlex.quote(str(path))} {quoted}", f"mount -o remount,bind,ro {quoted}"]


def _pip_paths() -> set[Path]:
    """Return the files with pip's settings, and the files and folders that these name."""
    pip = [sys.executable, "-m", "pip", "config"]
    files = subprocess.run([*pip, "debug"], capture_output=True, text=True, check=True).stdout
    values = subprocess.run([*pip, "list"], capture_output=True, text=True, check=True).stdout
    texts = re.findall(r"^\s*(/.*), exists: True$", files, re.MULTILINE) + re.findall(r"(?<![:/\w])/[^\s']+", values)
    paths = {Path(text) for text in texts if not text.startswith("/etc/ssl/")}
    paths |= {Path(text).parent for text in re.findall(r"file://(/[^\s']+)", values)}  # an index links to folders beside it
    return {path for path in paths if path.exists()}


def _certificates() -> Path | None:
    """Return the file with this machine's additional certificate authorities, or None."""
    files = [Path(os.environ[name]) for name in ("PIP_CERT", "SSL_CERT_FILE") if os.environ.get(name)]
    return next((path for path in files if path.is_file()), None)
