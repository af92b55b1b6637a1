"""Traces to an OpenTelemetry collector, where the standard variables (`OTEL_...`) name one; needs the extra `otel`."""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from threading import Thread
from typing import TYPE_CHECKING

from sync.core.tracing import Span, Tracer, Value, trace_by
from sync.logger import structlog

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as Traced

NAME = "voucher-sync"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SUPPORTED = "http/protobuf"
NOT_INSTALLED = "a collector is named, and voucher-sync[otel], by which it is spoken to, is not installed"
FLUSH_S = 1.0
"""At the end a collector has so long to take what is left; within 10 s of a signal the daemon must be gone."""

log = structlog.get_logger()


def is_wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment names a collector, and does not turn traces off."""
    is_off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    is_for_others = (environ.get("OTEL_TRACES_EXPORTER") or "otlp") != "otlp"  # one that is empty counts as not set
    return any(environ.get(name) for name in ENDPOINTS) and not is_off and not is_for_others


@contextmanager
def tracing() -> Iterator[None]:
    """Tell of what is done in the block. What keeps that from working is logged, and keeps nothing else from it."""
    provider = _make_provider() if is_wanted() else None
    if provider is None:
        yield
        return
    trace_by(_tracer(provider))
    try:
        yield
    finally:
        trace_by(None)
        ending = Thread(target=provider.shutdown, daemon=True)
        ending.start()
        ending.join(FLUSH_S)


def _make_provider() -> "TracerProvider | None":
    protocol = next((os.environ[name] for name in PROTOCOLS if os.environ.get(name)), SUPPORTED)
    if protocol != SUPPORTED:
        log.warning("no_traces", why=f"they are sent by {SUPPORTED} alone: unset {' and '.join(PROTOCOLS)}")
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({"service.name": NAME, "service.version": version(NAME)})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ImportError:
        log.warning("no_traces", why=f"{NOT_INSTALLED}: install it, or unset {' and '.join(ENDPOINTS)}")
    except Exception as error:  # noqa: BLE001 - whatever the libraries make of a wrong variable
        log.warning("no_traces", why=f"OTEL_...: {type(error).__name__}")  # its words may hold a header's secret
    else:
        return provider
    return None


def _tracer(provider: "TracerProvider") -> Tracer:
    from opentelemetry.trace import Status, StatusCode

    tracer = provider.get_tracer(NAME, version(NAME))

    @contextmanager
    def traced(name: str, attributes: Mapping[str, Value]) -> Iterator[Span]:
        # An error's own words may quote a code: its kind must do.
        with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as told:
            span = _Span(told)
            span.set(**attributes)
            try:
                yield span
            except BaseException as error:
                told.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise

    def begin(name: str, attributes: Mapping[str, Value]) -> AbstractContextManager[Span]:
        return traced(name, attributes)

    return begin


class _Span:
    def __init__(self, told: "Traced") -> None:
        self._told = told

    def set(self, **attributes: Value) -> None:
        for name, value in attributes.items():
            self._told.set_attribute(f"voucher_sync.{name}", value)
