"""Counts of the requests of this process, in the text format of Prometheus."""

from __future__ import annotations

from dataclasses import dataclass

MEDIA_TYPE = "text/plain"
FORMAT = f"{MEDIA_TYPE}; version=0.0.4; charset=utf-8"

_COUNT = "indelible_http_requests_total"
_SECONDS = "indelible_http_request_seconds_total"


@dataclass(slots=True)
class _Requests:
    count: int = 0
    seconds: float = 0.0


class RequestCounts:
    """How many requests each route answered with each status, and how long they took.

    The seconds of a streamed answer are those until it begins.
    """

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], _Requests] = {}

    def record(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            method: its HTTP method.
            route: the path of its route, with names in braces.
            status: the status of the answer.
            seconds: how long it took.
        """
        requests = self._requests.setdefault((method, route, status), _Requests())
        requests.count += 1
        requests.seconds += seconds

    def text(self) -> str:
        """Return the counts in the text format of Prometheus."""
        found = sorted(self._requests.items())
        lines = [f"# HELP {_COUNT} Requests that were answered.", f"# TYPE {_COUNT} counter"]
        lines += [f"{_COUNT}{_labels(*key)} {requests.count}" for key, requests in found]
        lines += [
            f"# HELP {_SECONDS} Seconds until the answers began.",
            f"# TYPE {_SECONDS} counter",
        ]
        lines += [f"{_SECONDS}{_labels(*key)} {requests.seconds:.6f}" for key, requests in found]
        return "\n".join([*lines, ""])


def _labels(method: str, route: str, status: int) -> str:
    return f'{{method="{method}",route="{route}",status="{status}"}}'
