"""A LangChain agent whose model says what is in its script, and whose tools talk in five ways.

    agent.py --flows 1000 --truth FILE [--parallel 10] [--mark | --mark-unhooked | --otlp URL]

Every call of a tool has a destination of its own. A handler that knows nothing of tracing writes
down which call has which: the truth that the log is held against.
"""

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import sys
import urllib.request
import uuid
from concurrent import futures

import httpx
import requests
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import StructuredTool

#: The little internet serves every address of these networks, at these ports.
NETWORKS = ("198.51.100", "203.0.113")
PORTS = range(8000, 8020)
#: How often a call goes to its destination.
EACH = 2


def destinations():
    for port in PORTS:
        for network in NETWORKS:
            for host in range(1, 251):
                if f"{network}.{host}" != "198.51.100.53":
                    yield f"http://{network}.{host}:{port}/"


def fetch(url: str) -> int:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.status


def by_requests(url: str) -> str:
    """Fetches with requests."""
    return str([requests.get(url, timeout=30).status_code for _ in range(EACH)])


async def by_httpx(url: str) -> str:
    """Fetches with httpx, asynchronously."""
    codes = []
    for _ in range(EACH):
        async with httpx.AsyncClient() as client:
            codes.append((await client.get(url, timeout=30)).status_code)
    return str(codes)


def by_httpx_at_once(url: str) -> str:
    """Fetches with httpx, in an event loop of its own."""
    return asyncio.run(by_httpx(url))


def by_curl(url: str) -> str:
    """Fetches with curl, a process for each."""
    command = ["curl", "--silent", "--noproxy", "*", "--output", "/dev/null", url]
    return str([subprocess.run(command, timeout=30).returncode for _ in range(EACH)])


def by_threads(url: str) -> str:
    """Fetches in a pool of threads that other calls use too."""
    return str(list(THREADS.map(fetch, [url] * EACH)))


def by_processes(url: str) -> str:
    """Fetches in a pool of processes that other calls use too."""
    return str(list(PROCESSES.map(fetch, [url] * EACH)))


TOOLS = [
    StructuredTool.from_function(by_requests),
    StructuredTool.from_function(by_httpx_at_once, by_httpx, name="by_httpx"),
    StructuredTool.from_function(by_curl),
    StructuredTool.from_function(by_threads),
    StructuredTool.from_function(by_processes),
]


class Model(GenericFakeChatModel):
    """Says what is in its script."""

    def bind_tools(self, tools, **_named):
        return self


class Truth(BaseCallbackHandler):
    """Which call goes where."""

    run_inline = True

    def __init__(self, path):
        self.file = open(path, "w")

    def on_tool_start(self, serialized, input_str, *, run_id, inputs=None, **_named):
        line = {"tool": serialized["name"], "call": str(run_id), "url": inputs["url"]}
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()


def spans(url):
    """What exports a span for each call, and what to end it with."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if url.startswith("grpc://"):
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=url.replace("grpc", "http", 1), insecure=True)
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces")
    attributes = {"service.name": "agent", "process.pid": os.getpid()}
    provider = TracerProvider(resource=Resource(attributes))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("agent")

    class Spans(BaseCallbackHandler):
        run_inline = True

        def __init__(self):
            self.open = {}

        def on_tool_start(self, serialized, input_str, *, run_id, **_named):
            name = serialized["name"]
            span = tracer.start_span(f"execute_tool {name}")
            span.set_attribute("gen_ai.operation.name", "execute_tool")
            span.set_attribute("gen_ai.tool.name", name)
            span.set_attribute("gen_ai.tool.call.id", str(run_id))
            self.open[run_id] = span

        def on_tool_end(self, output, *, run_id, **_named):
            self.open.pop(run_id).end()

        def on_tool_error(self, error, *, run_id, **_named):
            self.open.pop(run_id).end()

    return Spans(), provider.shutdown


def ask(urls, callbacks, is_async):
    """One question, upon which the agent calls a tool for each URL, at once."""
    wanted = [
        {"name": tool.name, "args": {"url": url}, "id": str(uuid.uuid4())}
        for tool, url in urls
    ]
    script = [AIMessage("", tool_calls=wanted), AIMessage("done")]
    agent = create_agent(Model(messages=iter(script)), TOOLS)
    question = {"messages": [("user", "go")]}
    config = {"callbacks": callbacks, "max_concurrency": 16}
    if is_async:
        answer = asyncio.run(agent.ainvoke(question, config))
    else:
        answer = agent.invoke(question, config)
    failed = [m.content for m in answer["messages"] if getattr(m, "status", "") == "error"]
    if failed:
        sys.exit(f"a tool failed: {failed[0]}")


def main():
    global THREADS, PROCESSES
    parser = argparse.ArgumentParser()
    parser.add_argument("--flows", type=int, required=True)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--parallel", type=int, default=10)
    parser.add_argument("--mark", action="store_true")
    parser.add_argument("--mark-unhooked", action="store_true")
    parser.add_argument("--otlp")
    options = parser.parse_args()

    callbacks, finish, pools = [Truth(options.truth)], lambda: None, futures
    if options.mark or options.mark_unhooked:
        import egress_tracer
        import egress_tracer.pools as pools
        from egress_tracer.langchain import EgressTracer

        egress_tracer.register(tools=[tool.name for tool in TOOLS] + ["never_used"])
        if options.mark:
            egress_tracer.name_callers()
        callbacks.append(EgressTracer())
    if options.otlp:
        handler, finish = spans(options.otlp)
        callbacks.append(handler)

    calls = list(zip(itertools.cycle(TOOLS), itertools.islice(destinations(), options.flows // EACH)))
    with pools.ThreadPoolExecutor(4) as THREADS, pools.ProcessPoolExecutor(2) as PROCESSES:
        # Forked while there is one thread: a fork beside others may hang, whoever watches.
        list(PROCESSES.map(abs, range(4)))
        turn, position = 0, 0
        while position < len(calls):
            # Alone, a pair now and then: for whoever has only times to go by.
            at_once = options.parallel if options.parallel > 1 else 1 + (turn % 60 == 59)
            ask(calls[position : position + at_once], callbacks, is_async=turn % 2 == 0)
            position += at_once
            turn += 1
    finish()
    if options.mark:
        print("not said to the daemon:", egress_tracer._calls.daemon.unsaid)


if __name__ == "__main__":
    main()
