"""`overtile keys`: adds, lists and revokes keys of the service; a running server notices it within a second."""

import os
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from configs.command_line import exit_codes

if TYPE_CHECKING:
    from service.keys import Key, Keys, KeyScope

app = typer.Typer(
    help="Manage the keys of the service: who may use it, for which requests and how much.",
    epilog="Example: overtile keys add 'Pathology, room 3' --expires 30d",
    no_args_is_help=True,
)


@app.command(epilog="Example: overtile keys add 'Pathology, room 3' --expires 30d")
def add(
    name: Annotated[str, typer.Argument(help="User or purpose of the key.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What the key allows: models, segment, jobs, metrics or admin. Repeat it for several. "
            "Default: models, segment and jobs."
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="Lifetime of the key, for example 30d or 12h. Default: unlimited.")
    ] = None,
    max_jobs: Annotated[
        int | None,
        typer.Option(help="Limit of unfinished jobs at a time. Default: only the limit of the server's queue.", min=1),
    ] = None,
    max_stored_bytes: Annotated[
        str | None, typer.Option(help="Limit of stored uploads and results, for example 10GB. Default: only the server's disk.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Limit of requests per minute. Default: the server's limit.", min=1)
    ] = None,
) -> None:
    """Add a key and print it; it can't be shown again. In a shell: KEY=$(overtile keys add NAME)."""
    with exit_codes():
        from configs.quantities import parse_memory
        from configs.schema import ConfigError

        if not (0 < len(name) <= 64 and name.isprintable()):
            raise ConfigError(f"name {name[:80]!r}: not a name; give 1 to 64 printable characters")
        key, token = _keys().add(
            name,
            scopes=_scopes(scope or []),
            expires_at=_expiry(expires),
            max_jobs=max_jobs,
            max_stored_bytes=parse_memory(max_stored_bytes, "--max-stored-bytes") if max_stored_bytes else None,
            requests_per_minute=requests_per_minute,
        )
        typer.echo(f"{_line(key)}\nthe key isn't shown again; revoke it with: overtile keys revoke {key.id}", err=True)
        typer.echo(token)


@app.command("list", epilog="Example: overtile keys list")
def list_keys() -> None:
    """Print a line for each key: ID, state, name, scopes, and its limits."""
    with exit_codes():
        keys = _keys().list()
        for key in keys:
            typer.echo(_line(key))
        if not keys:
            typer.echo("no keys yet; add one with: overtile keys add NAME", err=True)


@app.command(epilog="Example: overtile keys revoke 5f0c27ab")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="ID of the key, as overtile keys list prints it.")],
) -> None:
    """Revoke a key; its uploads and jobs stay until they expire."""
    with exit_codes():
        typer.echo(_line(_keys().revoke(key_id)), err=True)


def _keys() -> "Keys":
    from service.keys import Keys
    from service.store import Store, store_folder

    return Keys(Store(store_folder(os.environ)).keys)


def _scopes(names: list[str]) -> tuple["KeyScope", ...]:
    from configs.schema import ConfigError
    from service.keys import SCOPES, USUAL_SCOPES

    for unknown in set(names) - set(SCOPES):
        raise ConfigError(f"--scope {unknown!r}: not a scope; give {', '.join(SCOPES[:-1])} or {SCOPES[-1]}")
    return tuple(scope for scope in SCOPES if scope in names) or USUAL_SCOPES


def _expiry(text: str | None) -> datetime | None:
    from configs.schema import ConfigError

    if text is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,4})([dh])", text)
    if match is None:
        raise ConfigError(f"--expires {text!r}: not a time; give a whole number of days or hours, for example 30d or 12h")
    span = timedelta(days=int(match[1])) if match[2] == "d" else timedelta(hours=int(match[1]))
    return datetime.now(UTC).replace(microsecond=0) + span


def _line(key: "Key") -> str:
    details = {
        "created": key.created_at.isoformat(),
        "expires": key.expires_at.isoformat() if key.expires_at else None,
        "max_jobs": key.max_jobs,
        "max_stored_bytes": key.max_stored_bytes,
        "requests_per_minute": key.requests_per_minute,
    }
    more = " ".join(f"{name}={value}" for name, value in details.items() if value is not None)
    return f"{key.id} {key.state} {key.name!r} {','.join(key.scopes)} {more}"
