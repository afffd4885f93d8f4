"""How a program marks what belongs to a tool: ``with``, ``async with``, a decorator, and workers."""

from __future__ import annotations

import functools
import inspect
import os
from typing import Any, Callable, Optional, TypeVar

from . import _calls
from ._calls import Call, _current

F = TypeVar("F", bound=Callable[..., Any])


class Mark:
    """A tool's name, with which calls of it are marked. See :func:`tool`."""

    __slots__ = ("_tool", "_call", "_kind")

    def __init__(self, tool: str, call: Optional[str] = None, *, kind: str = "tool") -> None:
        self._tool = tool
        self._call = call
        self._kind = kind

    def __enter__(self) -> Call:
        # In an event loop other tasks may run before the end: the thread alone does not tell.
        scope = "task" if _calls.is_in_event_loop() else "thread"
        return _calls.begin(self._tool, self._call, self._kind, scope, self)

    def __exit__(self, *_exception: object) -> None:
        call = _current.get()
        while call is not None and not (call.owner is self and call.is_open):
            call = call.parent
        if call is not None:
            _calls.end(call)

    async def __aenter__(self) -> Call:
        return self.__enter__()

    async def __aexit__(self, *exception: object) -> None:
        self.__exit__(*exception)

    def __call__(self, function: F) -> F:
        """Marks every call of ``function``."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            # Between two values its caller's code runs, which does not belong to the tool.
            raise TypeError("a generator cannot be marked: mark what it does, with `with`")
        if inspect.iscoroutinefunction(function):
            return self._around_coroutine(function)
        return self._around_function(function)

    def _around_function(self, function: Any) -> Any:
        @functools.wraps(function)
        def marked(*arguments: Any, **named: Any) -> Any:
            # Nothing else runs in this thread until it returns, in an event loop either.
            call = _calls.begin(self._tool, self._call, self._kind, "thread")
            try:
                return function(*arguments, **named)
            finally:
                _calls.end(call)

        return marked

    def _around_coroutine(self, function: Any) -> Any:
        @functools.wraps(function)
        async def marked(*arguments: Any, **named: Any) -> Any:
            call = _calls.begin(self._tool, self._call, self._kind, "task")
            try:
                return await function(*arguments, **named)
            finally:
                _calls.end(call)

        return marked


def tool(name: str, call: Optional[str] = None) -> Mark:
    """Marks a tool: ``with tool("search"):``, ``async with``, or ``@tool("search")``.

    ``call`` is the call's own id, where the program has one; it appears in the log as ``call_id``.
    """
    return Mark(name, call)


def llm(name: str, call: Optional[str] = None) -> Mark:
    """Marks a request to a model."""
    return Mark(name, call, kind="llm")


def retriever(name: str, call: Optional[str] = None) -> Mark:
    """Marks a retrieval."""
    return Mark(name, call, kind="retriever")


def scan(name: str, call: Optional[str] = None) -> Mark:
    """Marks a scan of what goes to a model or comes from it."""
    return Mark(name, call, kind="scan")


class _Carried:
    """A function that runs for the call that was current when this was made. Can be pickled."""

    def __init__(self, function: Callable[..., Any], call: Call) -> None:
        self._function = function
        self._call = call
        self._tool, self._id, self._kind = call.tool, call.id, call.kind

    def __getstate__(self) -> tuple:
        return self._function, self._tool, self._id, self._kind

    def __setstate__(self, state: tuple) -> None:
        self._function, self._tool, self._id, self._kind = state
        self._call = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self._call is None or self._call.pid != os.getpid():
            return self._in_another_process(arguments, named)
        before = _current.get()
        _current.set(self._call)
        _calls.use(self._call)
        try:
            return self._function(*arguments, **named)
        finally:
            _current.set(before)
            _calls.resume()

    def _in_another_process(self, arguments: tuple, named: dict) -> Any:
        # Calls are a connection's own: this one says that it works for the same call.
        _calls.share()
        call = _calls.begin(self._tool, self._id, self._kind, "thread")
        try:
            return self._function(*arguments, **named)
        finally:
            _calls.end(call)


def carry(function: F) -> F:
    """Makes ``function`` run for the current call, in whatever thread or process it is run.

    ``executor.submit(carry(download), url)``; a process pool can pickle it. Outside of any call,
    and where no daemon listens, it is ``function`` itself.
    """
    call = _calls.current()
    if call is None or not _calls.is_there():
        return function
    return _Carried(function, call)  # type: ignore[return-value]
