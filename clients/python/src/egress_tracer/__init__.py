"""Tells egress-tracer which of an agent's tools is running.

    import egress_tracer

    with egress_tracer.tool("search"):
        requests.get(...)

    @egress_tracer.tool("search")
    async def search(query): ...

Where no daemon listens, all of this does nothing. Nothing in here raises because of the daemon, and
nothing waits for it for longer than some milliseconds.
"""

from ._audit import name_callers
from ._calls import register
from ._mark import Mark, carry, llm, retriever, scan, tool

__all__ = [
    "Mark",
    "carry",
    "llm",
    "name_callers",
    "register",
    "retriever",
    "scan",
    "tool",
]
__version__ = "0.1.0"
