"""The BentoML service: loads the Bento's models in one worker and puts our routes at /.

BentoML gives the model store, the worker's life, /livez, /readyz and /metrics; requests go to our own ASGI app.
Nothing heavy is imported before the worker starts, because BentoML's parent process and its build import this file too.
"""

import ctypes
import os
import signal
from pathlib import Path
from typing import Any

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

from service import logs

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
        from models.bundle import load
        from service.api import make_api
        from service.engine import Engine
        from service.limits import Limits

        limits = Limits.from_environment(os.environ)
        engine = Engine([load(folder) for folder in bundle_folders(Overtile)], max_waiting=limits.max_waiting)
        routes.app = make_api(engine, limits)
        logs.configure()


def bundle_folders(service: Any) -> list[Path]:
    """The bundles of the service's Bento, out of its own models or the model store.

    Raises:
        RuntimeError: the service has no Bento: it was started from the source files.
    """
    if service.bento is None:
        raise RuntimeError("no Bento is served; run overtile package BUNDLE, then overtile serve")
    return [Path(bentoml.models.get(model.tag).path_of("bundle")) for model in service.bento.info.all_models]


def end_with_parent() -> None:
    """Linux: a worker whose parent is killed stops too, instead of holding the port and the device."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
