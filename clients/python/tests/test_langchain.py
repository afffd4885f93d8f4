"""The handler, by real agents and tools of LangChain's, asked in both ways."""

from __future__ import annotations

import asyncio
import threading
import unittest
from typing import Any

from langchain.agents import create_agent
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import tool

from egress_tracer import _calls
from egress_tracer.langchain import EgressTracer
from test_client import Case

seen: list = []


def note() -> None:
    call = _calls.current()
    seen.append((call and call.tool, call and call.kind, threading.get_native_id()))


@tool
def plain(text: str) -> str:
    """Works."""
    note()
    return text


@tool
async def waiting(text: str) -> str:
    """Waits."""
    await asyncio.sleep(0.01)
    note()
    return text


@tool
def failing(text: str) -> str:
    """Fails."""
    raise ValueError(text)


class Model(GenericFakeChatModel):
    """Says what is in its script."""

    def bind_tools(self, tools: Any, **_named: Any) -> "Model":
        return self


class Documents(BaseRetriever):
    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list:
        note()
        return [Document(query)]


def agent_that_calls(*names: str) -> Any:
    wanted = [{"name": name, "args": {"text": "x"}, "id": name} for name in names]
    script = [AIMessage("", tool_calls=wanted), AIMessage("done")]
    return create_agent(Model(messages=iter(script)), [plain, waiting, failing])


QUESTION = {"messages": [("user", "go")]}


class LangChain(Case):
    def setUp(self) -> None:
        super().setUp()
        seen.clear()
        self.config = {"callbacks": [EgressTracer()]}

    def test_an_agent_asked_synchronously(self) -> None:
        server = self.serve()
        agent_that_calls("plain").invoke(QUESTION, self.config)
        self.assertEqual([(name, kind) for name, kind, _ in seen], [("plain", "tool")])
        begun = [(m["tool"], m["kind"], m["scope"]) for m in server.of("begin")]
        model = ("Model", "llm", "thread")
        self.assertEqual(begun, [model, ("plain", "tool", "thread"), model])
        # Where the tool ran is what was marked.
        self.assertEqual(server.of("begin")[1]["tid"], seen[0][2])
        ended = [m["call"] for m in server.of("end")]
        self.assertEqual(ended, [m["call"] for m in server.of("begin")])

    def test_an_agent_asked_asynchronously(self) -> None:
        server = self.serve()
        agent = agent_that_calls("waiting", "plain", "waiting")
        asyncio.run(agent.ainvoke(QUESTION, self.config))
        self.assertEqual(sorted(name for name, _, _ in seen), ["plain", "waiting", "waiting"])
        scopes = {(m["tool"], m["scope"]) for m in server.of("begin") if m["kind"] == "tool"}
        # LangChain takes a plain function to a thread of its own, and begins it there.
        self.assertEqual(scopes, {("waiting", "task"), ("plain", "thread")})
        self.assertEqual(len(server.of("begin")), 5)
        self.assertEqual(len(server.of("end")), 5)

    def test_what_fails_ends(self) -> None:
        server = self.serve()
        with self.assertRaises(ValueError):
            failing.invoke("x", self.config)
        self.assertEqual(len(server.of("end")), 1)

    def test_a_retriever(self) -> None:
        server = self.serve()
        Documents().invoke("x", self.config)
        self.assertEqual(seen[0][:2], ("Documents", "retriever"))
        self.assertEqual(server.of("begin")[0]["kind"], "retriever")

    def test_an_agent_without_a_daemon(self) -> None:
        agent_that_calls("plain", "plain").invoke(QUESTION, self.config)
        self.assertEqual([name for name, _, _ in seen], ["plain", "plain"])


if __name__ == "__main__":
    unittest.main()
