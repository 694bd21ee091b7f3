"""The BentoML service: the app mounted at /, and the gateway that is started with it.

BentoML provides the model store, the Bento and the service's start and stop; requests go to our own ASGI app. Nothing heavy
is imported here, as BentoML also imports this file when it builds the Bento.
"""

import gc
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

from disk.user_folders import name_user
from service import event_log
from service.packaging.model_store import bundle_folders

_DAY_S = 24 * 3600
EXIT_START = 3


class Routes:
    """ASGI app mounted at / when this file is imported; `app` is set once the models are loaded.

    It isn't a Starlette app, as BentoML would add its own pages to the routes of one.
    """

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        await self.app(scope, receive, send)


routes = Routes()


@bentoml.asgi_app(routes, path="/")
@bentoml.service(
    name="overtile",
    workers=1,  # one gateway, which owns jobs, uploads and the engine
    traffic={"timeout": _DAY_S},  # includes the upload; our own limits are shorter
    logging={"access": {"enabled": False}},  # it would log the client's path and content type; RequestLog logs
)
class Overtile:
    """Segmentation over HTTP."""

    def __init__(self) -> None:
        name_user(os.environ)  # for BentoML's own server; `overtile serve` has done it
        from service.api import create_app
        from service.errors import StartError
        from service.gateway import Gateway
        from service.keys import KeysDamaged

        os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
        try:
            self.gateway = Gateway(os.environ, bundle_folders(bento_of(Overtile)))
            # BentoML creates the service in its event loop, where DBOS can't be launched
            with ThreadPoolExecutor(1) as executor:
                executor.submit(self.gateway.start).result()
            routes.app = create_app(self.gateway)
        except (StartError, KeysDamaged, OSError, ValueError) as error:
            print(f"the server can't start: {error}", file=sys.stderr)  # noqa: T201
            os._exit(EXIT_START)
        event_log.configure()
        gc.collect()
        gc.freeze()  # modules and routes live as long as the process; scanning them delayed every answer by 150 ms

    @bentoml.on_shutdown  # type: ignore[untyped-decorator, unused-ignore]
    def stop(self) -> None:
        """Stop the gateway; running jobs are resumed at the next start."""
        self.gateway.stop()


def bento_of(service: Any) -> Any:
    """Return the Bento of a BentoML service.

    Raises:
        RuntimeError: the service was started from the source files.
    """
    if service.bento is None:
        raise RuntimeError("no Bento is served; run overtile package BUNDLE, then overtile serve")
    return service.bento
