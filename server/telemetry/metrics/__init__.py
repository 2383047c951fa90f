"""Every metric of the service by its public name, with one typed recording function each.

Labels are bounded: their values come from our own enums, tables and settings, never from a request, and a family that
still grows past `families.MAX_SERIES` counts the rest under `other`. Durations are seconds.
"""

from collections.abc import Sequence
from enum import IntEnum

from server.telemetry.metrics.families import JOB_SECONDS, counter, gauge, timing

_ingestion_jobs = counter("ingestion_job_status_total", "Ingestion jobs by final status.", "status", "language")
_ingestion_seconds = timing(
    "ingestion_job_duration_seconds", "Time of an ingestion job.", "status", "language", buckets=JOB_SECONDS
)
_milvus_queries = timing("milvus_query_duration_seconds", "Time of a vector search.", "namespace")
_milvus_upserts = timing("milvus_upsert_duration_seconds", "Time of a vector upsert.", "namespace")
_milvus_vectors = counter("milvus_vectors_upserted_total", "Vectors written.", "namespace")
_openai_requests = timing("openai_request_duration_seconds", "Time of a model call.", "model", "endpoint")
_openai_tokens = counter("openai_tokens_used_total", "Tokens that models reported.", "model")
_reservations = counter("wallet_reservation_total", "Reservations by what became of them.", "status")
_active_reservations = gauge("active_reservations", "Reservations that hold tokens now.", mode="mostrecent")
_stale_reservations = gauge("stale_reservations", "Open reservations older than 5 minutes.", mode="mostrecent")
_discrepancies = gauge("wallet_discrepancies", "Found by the last reconciliation.", "check", mode="mostrecent")
_breakers = gauge("circuit_breaker_state", "0 closed, 1 open, 2 half-open.", "service", mode="livemax")
_rate_limited = counter("rate_limit_rejected_total", "Calls refused by a rate limit.", "scope", "path")
_calls = counter("grpc_calls_total", "Calls answered.", "method", "code")
_call_seconds = timing("grpc_call_duration_seconds", "Time of a call, streams to their end.", "method")
_calls_in_flight = gauge("grpc_calls_in_flight", "Calls being answered now.", "method", mode="livesum")
_first_token = timing("time_to_first_token_seconds", "Time to the first text of an answer.", "method")
_cache_hits = counter("cache_hits_total", "Reads a cache answered.", "cache")
_cache_misses = counter("cache_misses_total", "Reads a cache did not answer.", "cache")
_degraded = counter("degraded_steps_total", "Steps of an answer that fell back.", "step")
_job_runs = counter("job_runs_total", "Runs of a scheduled job.", "job", "outcome")
_job_seconds = timing("job_duration_seconds", "Time of a scheduled job.", "job", buckets=JOB_SECONDS)
_job_success = gauge("job_last_success_timestamp_seconds", "When a job last succeeded.", "job", mode="mostrecent")
_queue_depth = gauge("queue_depth", "Tasks waiting.", "queue", mode="mostrecent")
_upkeep = gauge(
    "upkeep_last_success_timestamp_seconds", "When the slowest process last did it.", "task", mode="livemin"
)
_processes = gauge("server_processes", "Server processes that run.", mode="livesum")
_store_up = gauge("store_up", "1 while the store answers.", "store", mode="livemin")


class BreakerState(IntEnum):
    """What `circuit_breaker_state` shows."""

    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2


def record_ingestion_job(status: str, language: str, duration_seconds: float) -> None:
    """Count an ingestion job that reached a final status."""
    _ingestion_jobs.child(status, language).inc()
    _ingestion_seconds.child(status, language).observe(duration_seconds)


def record_milvus_query(namespace: str, duration_seconds: float) -> None:
    """Record a vector search."""
    _milvus_queries.child(namespace or "all").observe(duration_seconds)


def record_milvus_upsert(namespace: str, duration_seconds: float, vectors: int) -> None:
    """Record a vector upsert and how many vectors it wrote."""
    _milvus_upserts.child(namespace or "all").observe(duration_seconds)
    _milvus_vectors.child(namespace or "all").inc(vectors)


def record_openai_request(model: str, endpoint: str, duration_seconds: float, tokens: int = 0) -> None:
    """Record a model call; `endpoint` is `chat` or `embeddings`."""
    _openai_requests.child(model, endpoint).observe(duration_seconds)
    if tokens:
        _openai_tokens.child(model).inc(tokens)


def record_wallet_reservation(status: str, count: int = 1) -> None:
    """Count reservations that were `reserved`, `finalized`, `released`, `expired` or `refused`."""
    _reservations.child(status).inc(count)


def set_active_reservations(count: int) -> None:
    """Show how many reservations hold tokens now."""
    _active_reservations.child().set(count)


def set_stale_reservations(count: int) -> None:
    """Show how many open reservations are older than five minutes."""
    _stale_reservations.child().set(count)


def set_wallet_discrepancies(check: str, count: int) -> None:
    """Show what a reconciliation check found last."""
    _discrepancies.child(check).set(count)


def set_circuit_breaker_state(service: str, state: BreakerState) -> None:
    """Show a breaker's state."""
    _breakers.child(service).set(state)


def record_rate_limit_rejection(scope: str, path: str) -> None:
    """Count a refused call; `path` is the method's path in our own contract, or `unknown`."""
    _rate_limited.child(scope, path).inc()


def set_calls_in_flight(method: str, calls: int) -> None:
    """Show how many calls of a method run now."""
    _calls_in_flight.child(method).set(calls)


def record_calls(method: str, code: str, durations_seconds: Sequence[float]) -> None:
    """Record calls of a method that ended with the same code."""
    _calls.child(method, code).inc(len(durations_seconds))
    observe = _call_seconds.child(method).observe
    for seconds in durations_seconds:
        observe(seconds)


def record_first_token(method: str, duration_seconds: float) -> None:
    """Record when an answer showed its first text."""
    _first_token.child(method).observe(duration_seconds)


def record_cache(cache: str, hit: bool, times: int = 1) -> None:
    """Count reads of a cache."""
    (_cache_hits if hit else _cache_misses).child(cache).inc(times)


def record_degraded_step(step: str) -> None:
    """Count a step of an answer that fell back to a simpler one."""
    _degraded.child(step).inc()


def record_job(job: str, succeeded: bool, duration_seconds: float) -> None:
    """Record a run of a scheduled job."""
    _job_runs.child(job, "succeeded" if succeeded else "failed").inc()
    _job_seconds.child(job).observe(duration_seconds)


def set_job_success(job: str, succeeded_at: float) -> None:
    """Show when a scheduled job last succeeded in any process, as Unix time."""
    _job_success.child(job).set(succeeded_at)


def set_upkeep_success(task: str, succeeded_at: float) -> None:
    """Show when this process last did a task that every process does, as Unix time."""
    _upkeep.child(task).set(succeeded_at)


def count_process() -> None:
    """Count this process as one that serves."""
    _processes.child().set(1)


def set_queue_depth(queue: str, tasks: int) -> None:
    """Show how many tasks wait in a queue."""
    _queue_depth.child(queue).set(tasks)


def set_store_up(store: str, up: bool) -> None:
    """Show whether a store answers."""
    _store_up.child(store).set(int(up))
