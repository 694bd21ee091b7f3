"""The BentoML service: what is mounted at / and what is started with it.

BentoML gives the model store, the Bento and the service's life; requests go to our own ASGI app. Nothing heavy is imported
here: BentoML imports this file when it builds the Bento, too.
"""

import gc
import os
import sys
import threading
from typing import Any

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

from service import event_log
from service.packaging.model_store import bundle_folders

_DAY_S = 24 * 3600
EXIT_START = 3


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
    workers=1,  # one gateway: jobs, uploads and the engine are its own
    traffic={"timeout": _DAY_S},  # counts the upload too; our own limits are shorter. No limit of BentoML's on concurrency
    logging={"access": {"enabled": False}},  # it writes the client's path and content type as they came; Boundary logs
)
class Overtile:
    """Segmentation over HTTP."""

    def __init__(self) -> None:
        from service.errors import StartError
        from service.gateway import Gateway
        from service.keys import KeysDamaged

        os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
        try:
            self.gateway = Gateway(os.environ, bundle_folders(bento_of(Overtile)))
            routes.app = _outside_of_the_loop(self.gateway)
        except (StartError, KeysDamaged, OSError, ValueError) as error:
            print(f"the server can't start: {error}", file=sys.stderr)  # noqa: T201
            os._exit(EXIT_START)
        event_log.configure()
        gc.collect()
        gc.freeze()  # modules and routes stay for good: looking through them again held up every answer for 150 ms

    @bentoml.on_shutdown  # type: ignore[untyped-decorator, unused-ignore]
    def stop(self) -> None:
        """Jobs are gone on with at the next start."""
        self.gateway.stop()


def bento_of(service: Any) -> Any:
    """The Bento that a BentoML service came from.

    Raises:
        RuntimeError: none: the service was started from the source files.
    """
    if service.bento is None:
        raise RuntimeError("no Bento is served; run overtile package BUNDLE, then overtile serve")
    return service.bento


def _outside_of_the_loop(gateway: Any) -> ASGIApp:
    """BentoML makes the service in its event loop, where DBOS can't be launched."""
    outcome: list[Any] = []

    def start() -> None:
        try:
            outcome.append(gateway.start())
        except BaseException as error:  # noqa: BLE001  (raised again below, in the thread that can)
            outcome.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    app: ASGIApp = outcome[0]
    return app
