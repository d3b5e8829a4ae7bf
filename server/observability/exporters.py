"""Where requests are shown at their end: the log in debug, OpenTelemetry where tracing is on; nowhere by default."""

import asyncio
import logging
import os
from collections.abc import Mapping

from protos.errors import UsageError
from server.observability import logs
from server.observability.request_record import Exporter
from server.settings import Settings

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""The variables of OpenTelemetry that turn tracing on."""


class Exporters:
    """`active` are shown each request at its end. Raises `UsageError` if tracing is wanted and not installed."""

    def __init__(self, settings: Settings, environment: Mapping[str, str] = os.environ) -> None:
        self.active: list[Exporter] = [logs.log_request] if logs.requests.isEnabledFor(logging.DEBUG) else []
        self._tracing = None
        if traced(settings, environment):
            try:
                from server.observability.tracing import exporting
            except ModuleNotFoundError as error:
                needed = f"'{error.name}' is not installed: pip install 'paretoserve[tracing]'"
                raise UsageError(f"--trace: {needed}") from None
            self._tracing = exporting(settings.trace)
            self.active.append(self._tracing.export)

    async def close(self) -> None:
        """Exports the spans that are left."""
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)


def traced(settings: Settings, environment: Mapping[str, str]) -> bool:
    """Whether settings or OpenTelemetry's variables ask for tracing, and none of them forbids it."""
    forbidden = (
        environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none"
    )
    return bool(settings.trace or any(map(environment.get, ENDPOINTS))) and not forbidden
