"""`overtile package` and `overtile serve`."""

from pathlib import Path
from typing import Annotated

import typer

from configs.command_line import exit_codes


def package(
    bundles: Annotated[list[Path], typer.Argument(help="Folders of finished runs, or their bundle/.")],
    export: Annotated[
        Path | None,
        typer.Option(help="Folder to write ONNX files and bioimage.io packages to, for other programs; no Bento is built."),
    ] = None,
    author: Annotated[
        list[str] | None, typer.Option(help="With --export, required: author of the model. Repeat it for several.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="With --export: SPDX identifier of the model's licence, for example CC-BY-4.0.")
    ] = None,
) -> None:
    """Build a BentoML service (a Bento) from bundles, and check that it reproduces their validated output.

    Next step: overtile serve.
    """
    with exit_codes() as console:
        if export is not None:
            from service.packaging.bioimageio import Credits
            from service.packaging.export import export as export_bundles

            export_bundles(bundles, export, Credits(tuple(author or ()), licence), console.print)
            return
        from service.packaging.package import package as package_bundles

        lines: list[str] = []
        tag = package_bundles(bundles, tell=lines.append)
        console.print("\n".join([f"{tag}: built; serve it with: overtile serve {tag}", *lines]))


def serve(
    bento: Annotated[str | None, typer.Argument(help="Tag that overtile package printed. Default: the newest Bento.")] = None,
    host: Annotated[str, typer.Option(help="IP address to listen on; other machines reach it only with keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port to listen on.")] = 3000,
    without_keys: Annotated[
        bool,
        typer.Option("--without-keys", help="If no key exists, allow everybody who reaches the address to use the server."),
    ] = False,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="Certificate (PEM) for HTTPS; requires --tls-key. Default: HTTP.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key (PEM, without a password) of the certificate.")] = None,
) -> None:
    """Serve the packaged networks over HTTP, on the GPU if there is one, until SIGTERM or Ctrl-C.

    The routes are described at http://HOST:PORT/docs. Add keys for users with: overtile keys add NAME.
    """
    with exit_codes() as console:
        from service.launch import serve as serve_bento
        from service.launch import tls_files

        tls = tls_files(tls_certificate, tls_key)
        serve_bento(bento, host, port, without_keys=without_keys, tls=tls, on_start=console.print)
