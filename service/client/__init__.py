"""The other end of the HTTP interface: what the client is made of."""

from service.client.http_client import OvertileClient

__all__ = ["OvertileClient"]
