"""Marks what a LangChain agent does: tools, requests to models, retrievers.

    from egress_tracer.langchain import EgressTracer

    agent.invoke(question, config={"callbacks": [EgressTracer()]})

The same handler is for ``invoke`` and ``ainvoke``. A run's id is the call's id, so that a flow in the
log can be looked up in a trace.
"""

from __future__ import annotations

from typing import Any, Dict, Optional
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

from . import _calls
from ._calls import Call


class EgressTracer(BaseCallbackHandler):
    """Begins a call where LangChain starts something, and ends it where that ends or fails."""

    #: Called where the tool will run: in its task and its context, not in a pool's thread.
    run_inline = True

    def __init__(self) -> None:
        self._running: Dict[UUID, Call] = {}

    def on_tool_start(
        self, serialized: Optional[Dict[str, Any]], input_str: str, *, run_id: UUID, **named: Any
    ) -> None:
        self._begin(run_id, "tool", _name(serialized, named))

    def on_tool_end(self, output: Any, *, run_id: UUID, **_named: Any) -> None:
        self._end(run_id)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_named: Any) -> None:
        self._end(run_id)

    def on_llm_start(
        self, serialized: Optional[Dict[str, Any]], prompts: Any, *, run_id: UUID, **named: Any
    ) -> None:
        self._begin(run_id, "llm", _name(serialized, named))

    def on_chat_model_start(
        self, serialized: Optional[Dict[str, Any]], messages: Any, *, run_id: UUID, **named: Any
    ) -> None:
        self._begin(run_id, "llm", _name(serialized, named))

    def on_llm_end(self, response: Any, *, run_id: UUID, **_named: Any) -> None:
        self._end(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_named: Any) -> None:
        self._end(run_id)

    def on_retriever_start(
        self, serialized: Optional[Dict[str, Any]], query: str, *, run_id: UUID, **named: Any
    ) -> None:
        self._begin(run_id, "retriever", _name(serialized, named))

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **_named: Any) -> None:
        self._end(run_id)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **_named: Any) -> None:
        self._end(run_id)

    def _begin(self, run_id: UUID, kind: str, name: str) -> None:
        scope = "task" if _calls.is_in_event_loop() else "thread"
        self._running[run_id] = _calls.begin(name, str(run_id), kind, scope)

    def _end(self, run_id: UUID) -> None:
        call = self._running.pop(run_id, None)
        if call is not None:
            _calls.end(call)


def _name(serialized: Optional[Dict[str, Any]], named: Dict[str, Any]) -> str:
    """What the tool, model or retriever is called: by its author, else its class."""
    known = serialized or {}
    path = known.get("id") or ["unnamed"]
    return str(named.get("name") or known.get("name") or path[-1])
