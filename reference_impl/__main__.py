"""`python -m reference_impl`: serve the demo agent until SIGINT or SIGTERM arrives."""

import argparse
import sys
from collections.abc import Sequence

import reference_impl
from reference_impl.demo import demo_engine, paced
from reference_impl.regressions import REGRESSIONS, regressed


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the demo agent with the options in `arguments`, by default those of the command line.

    Once the server listens, it prints `serving URL`. Bad arguments, an address that cannot be bound
    and a missing library raise `SystemExit` with a one-line reason.
    """
    parser = argparse.ArgumentParser(prog="python -m reference_impl", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="host name or IPv4 address to bind")
    parser.add_argument(
        "--port", type=int, default=0, help="port to bind; 0, the default, takes a free port"
    )
    parser.add_argument(
        "--debug", action="store_true", help="serve the diagnostic paths under /api/dev"
    )
    parser.add_argument("--every", type=float, default=0.0, help="seconds before each delta")
    parser.add_argument("--loop", default="asyncio", choices=["asyncio", "uvloop"])
    parser.add_argument("--http", default="h11", choices=["h11", "httptools"])
    parser.add_argument(
        "--grace",
        type=float,
        default=5.0,
        help="seconds for running streams to end when the server stops",
    )
    parser.add_argument(
        "--regress",
        nargs="+",
        action="extend",
        default=[],
        choices=sorted(REGRESSIONS),
        metavar="NAME",
        help=f"names of seeded regressions to put in place: {', '.join(sorted(REGRESSIONS))}",
    )
    options = parser.parse_args(arguments)

    try:
        create_app = reference_impl.create_app
    except ModuleNotFoundError as error:
        sys.exit(str(error))
    try:
        from reference_impl.server import serve  # noqa: PLC0415 - uvicorn may be missing
    except ModuleNotFoundError as error:
        sys.exit(_missing_library_text(error.name, "serve"))

    try:
        with regressed(*options.regress):
            serve(
                create_app(paced(demo_engine, options.every), debug=options.debug),
                (options.host, options.port),
                loop=options.loop,
                http=options.http,
                grace=options.grace,
            )
    except ModuleNotFoundError as error:  # uvicorn imports its loop and its parser only now
        sys.exit(_missing_library_text(error.name, "fast"))
    except (OSError, ValueError) as error:
        sys.exit(f"cannot listen on {options.host}:{options.port}: {error}")


def _missing_library_text(library: str | None, extra: str) -> str:
    command = f"pip install 'pytest-streamperf[{extra}]'"
    return f"python -m reference_impl needs {library}: {command}"


if __name__ == "__main__":
    main()
