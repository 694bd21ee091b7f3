"""Client of the HTTP interface: `OvertileClient` for programs, and the commands of `overtile client`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.client.http_client import OvertileClient

__all__ = ["OvertileClient"]


def __getattr__(name: str) -> Any:
    """Import the client when it is first used: it needs httpx and pydantic, which the command line's help does not."""
    if name == "OvertileClient":
        from service.client.http_client import OvertileClient

        return OvertileClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
