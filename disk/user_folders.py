"""Folders of the user for state, caches and temporary files, on machines where the user may have no name or no home."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from pwd import getpwuid

CACHE_VARIABLE, CACHE = "XDG_CACHE_HOME", ".cache"
_USER_VARIABLES = ("LOGNAME", "USER", "LNAME", "USERNAME")  # getpass.getuser reads them in this order
# Caches of libraries that have a variable of their own, and the subfolder that each gets
_LIBRARY_CACHES = {"MPLCONFIGDIR": "matplotlib", "TRITON_CACHE_DIR": "triton", "CUDA_CACHE_PATH": "cuda"}
_PROBE_BYTES = 1 << 20  # a disk or quota with less left counts as full


def prepare_environment(environment: MutableMapping[str, str]) -> list[str]:
    """Set variables that libraries need before they are imported, and return remarks for the user.

    If the user's cache can't be written, caches go to a folder of the user among the temporary files.

    Args:
        environment: `os.environ`, which is changed.

    Raises:
        OSError: temporary files can't be written anywhere.
    """
    if not environment.get("HOME"):
        environment.pop("HOME", None)  # libraries would read an empty one as /
    name_user(environment)
    try:
        temporary = tempfile.gettempdir()
        if not _is_cache_writable(environment):
            caches = _private_folder(Path(temporary, f"overtile-{os.getuid()}"))
            environment[CACHE_VARIABLE] = str(caches)
            environment.update({name: str(caches / subfolder) for name, subfolder in _LIBRARY_CACHES.items()})
    except OSError as error:
        raise OSError(
            f"temporary files can't be written ({error.strerror}); set TMPDIR to a folder that you can write to"
        ) from error
    choice = environment.get("TMPDIR")
    if choice and temporary != os.path.abspath(choice):  # noqa: PTH100  (tempfile's own form, without resolved links)
        return [f"TMPDIR={choice} can't be written, or is full; temporary files go to {temporary}"]
    return []


def name_user(environment: MutableMapping[str, str]) -> None:
    """Give a name to a user without an entry in the user database, because MONAI asks for one at import."""
    if any(environment.get(name) for name in _USER_VARIABLES):
        return
    try:
        getpwuid(os.getuid())
    except KeyError:
        environment["LOGNAME"] = environment["USER"] = f"uid{os.getuid()}"


def user_folder(environment: Mapping[str, str], variable: str, name: str) -> Path:
    """Return the folder that a variable names, by default the folder `name` in the user's home.

    Raises:
        FileNotFoundError: the variable isn't set, and the user has no home.
    """
    if folder := environment.get(variable):
        return Path(folder)
    with suppress(RuntimeError):
        home = Path.home()
        if home.is_absolute():
            return home / name
    raise FileNotFoundError(
        f"you have no home folder to hold {name} (HOME isn't set); set {variable} to a folder that you can write to"
    )


@contextmanager
def choosable_by(variable: str, folder: Path) -> Iterator[None]:
    """Add to an OSError that the folder can't be written, and which variable chooses another one.

    Raises:
        OSError: with a message for the user.
    """
    try:
        yield
    except OSError as error:
        # a shutil.Error lists (source, target, reason) of each file
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror or error
        raise OSError(f"{folder} can't be written: {reason}; set {variable} to a folder that you can write to") from error


def _is_cache_writable(environment: Mapping[str, str]) -> bool:
    """Return whether a file can be written to the user's cache, which is created; a full disk or quota shows only then."""
    try:
        folder = user_folder(environment, CACHE_VARIABLE, CACHE)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE_BYTES))
    except OSError:
        return False
    return True


def _private_folder(folder: Path) -> Path:
    """Return the folder, created for this user alone, or a new one if another user has taken its name."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    is_private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
    return folder if is_private else Path(tempfile.mkdtemp(prefix=f"{folder.name}-"))
