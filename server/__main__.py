"""`pareto-serve`: serves the variants of a repository until it is told to stop. `--help` lists what it takes."""

import asyncio
import os
import sys
from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path

from protos.errors import StoreError, UsageError
from protos.support import program
from server.observability.logs import configure
from server.settings import Settings, parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one server; returns the exit code: 0 after a signal, 2 where it cannot be started as asked."""
    with program.quiet_end():
        return _main(sys.argv[1:] if arguments is None else arguments)


def _main(flags: Sequence[str]) -> int:
    try:
        settings = parse(flags, os.environ)
        configure(settings.log_level, settings.log_format)
        prepare(os.environ, settings.threads)
        settings = on_this_disk(settings)
        flags = [*flags, "--repository", str(settings.repository)]
        asyncio.run(_serve(settings, flags))
    except (UsageError, StoreError) as error:
        print(f"pareto-serve: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while the repository is fetched; later it is a signal to drain
        return 130
    return 0


def on_this_disk(settings: Settings) -> Settings:
    """Returns the settings with a copy of what `--only` names in place of a URL, with `--watch` kept up to date.

    Raises `StoreError` where it cannot be fetched, `UsageError` where its extra is not installed.
    """
    if isinstance(settings.repository, Path):
        return settings
    from server.hosting.mirror import Mirror, default_cache

    mirror = Mirror(settings.repository, settings.repository_cache or default_cache(), {*settings.only})
    mirror.sync()
    if settings.watch:
        mirror.follow(settings.watch)
    return replace(settings, repository=mirror.root)


async def _serve(settings: Settings, flags: Sequence[str]) -> None:
    if settings.workers > 1:  # this process supervises them, and needs none of their libraries
        from server.workers.supervisor import supervise

        await supervise(settings, flags)
    else:
        from server.lifecycle import serve

        await serve(settings)


def prepare(environment: MutableMapping[str, str], threads: int) -> None:
    """Settles what libraries read from the environment when they are imported, where the user has not."""
    for pool in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environment.setdefault(pool, str(threads))
    environment.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # engines fork helpers; gRPC would comment on each
    environment.setdefault("GRPC_VERBOSITY", "NONE")  # its errors reach us as exceptions, and are told once


if __name__ == "__main__":
    sys.exit(main())
