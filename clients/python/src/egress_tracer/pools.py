"""Pools whose workers run for the call that gave them the work.

They take the place of those of ``concurrent.futures`` and are used in the same way.
"""

from __future__ import annotations

import concurrent.futures
from typing import Any, Callable

from ._mark import carry


class ThreadPoolExecutor(concurrent.futures.ThreadPoolExecutor):
    """A pool of threads."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return super().submit(carry(fn), *args, **kwargs)


class ProcessPoolExecutor(concurrent.futures.ProcessPoolExecutor):
    """A pool of processes."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return super().submit(carry(fn), *args, **kwargs)
