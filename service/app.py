"""The BentoML service: loads the Bento's models in one worker and puts our routes at /.

BentoML gives the model store, the worker's life, /livez, /readyz and /metrics; requests go to our own ASGI app.
Nothing heavy is imported before the worker starts, because BentoML's parent process and its build import this file too.
"""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

from service import logs
from service.package import bundle_folders

_HOUR_S = 3600
_PR_SET_PDEATHSIG = 1


class Routes:
    """What is mounted at / when this file is imported; `app` is there once the models are.

    Not a Starlette app itself: BentoML would look into its routes and put pages of its own where we have none.
    """

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on."""
        await self.app(scope, receive, send)


routes = Routes()


@bentoml.asgi_app(routes, path="/")
@bentoml.service(
    name="overtile",
    workers=1,  # the networks are loaded once; the device is one
    traffic={"timeout": _HOUR_S},  # counts the upload too; our own limits are shorter. No limit of BentoML's on concurrency
    logging={"access": {"enabled": False}},  # it writes the client's path and content type as they came; Boundary logs
)
class Overtile:
    """Segmentation over HTTP."""

    def __init__(self) -> None:
        end_with_parent()
        from imaging.nursery import nursery
        from models.bundle import load
        from service.api import make_api
        from service.engine import Engine
        from service.limits import Limits

        with end_server_on_failure():
            limits = Limits.from_environment(os.environ)
            engine = Engine([load(folder) for folder in bundle_folders(bento_of(Overtile))], max_waiting=limits.max_waiting)
            nursery().start()
            routes.app = make_api(engine, limits)
        logs.configure()


def bento_of(service: Any) -> Any:
    """The Bento that a BentoML service came from.

    Raises:
        RuntimeError: none: the service was started from the source files.
    """
    if service.bento is None:
        raise RuntimeError("no Bento is served; run overtile package BUNDLE, then overtile serve")
    return service.bento


def end_with_parent() -> None:
    """Linux: a worker whose parent is killed stops too, instead of holding the port and the device."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def end_server_on_failure() -> Iterator[None]:
    """Ends the parent process too, which would otherwise start this worker again and again."""
    try:
        yield
    except BaseException as error:
        logging.getLogger("bentoml").error("the server can't start: %s", error)
        if bentoml.server_context.worker_index is not None:  # the parent is BentoML's
            os.kill(os.getppid(), signal.SIGTERM)
        raise
