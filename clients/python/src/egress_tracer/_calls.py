"""Calls of tools: which are open in this process, and for which of them this code runs."""

from __future__ import annotations

import itertools
import os
import secrets
import sys
import threading
from contextvars import ContextVar
from typing import Any, Dict, Iterable, List, Optional

from ._daemon import Daemon, Message, hellos

CLIENT = "python/0.1"
#: The longest name of a tool and the longest id of a call, in bytes.
LONGEST_NAME = 128


class Call:
    """One call of a tool, from ``begin`` to ``end``."""

    __slots__ = ("tool", "id", "kind", "scope", "tid", "pid", "parent", "owner", "is_open")

    def __init__(self, tool: str, call: Optional[str], kind: str, scope: str, owner: object):
        self.tool = shortened(tool)
        self.id = _unique(shortened(call)) if call else _new_id()
        self.kind = kind
        self.scope = scope
        self.tid = threading.get_native_id()
        self.pid = os.getpid()
        self.parent = current()
        self.owner = owner
        self.is_open = True

    def message(self) -> Message:
        """How it is announced."""
        said: Message = {
            "op": "begin",
            "tool": self.tool,
            "call": self.id,
            "kind": self.kind,
            "tid": self.tid,
            "scope": self.scope,
        }
        if self.parent is not None:
            said["parent"] = self.parent.id
        return said


class _Thread(threading.local):
    """What the daemon was told last about this thread by ``use``: on which connection, a call's id
    and the caller."""

    used: Optional[tuple] = None
    #: Set while the daemon is spoken to, which must not be marked itself.
    is_speaking = False


#: Something was said, and something else has changed since.
_UNKNOWN: tuple = ()

_current: ContextVar[Optional[Call]] = ContextVar("egress_tracer_call", default=None)
_thread = _Thread()
_open: Dict[str, Call] = {}
_registered: Dict[str, List[str]] = {"tools": [], "models": [], "retrievers": []}
_numbers = itertools.count(1)
_process = secrets.token_hex(4)
_is_shared = False
_is_forked = False


def _greeting() -> Iterable[Message]:
    yield from hellos(CLIENT, _registered)
    if _is_shared:
        yield {"op": "shared"}
    for call in list(_open.values()):
        yield call.message()


daemon = Daemon(_greeting)


def _after_fork() -> None:
    global _process, _is_forked
    _is_forked = True
    _process = secrets.token_hex(4)
    _open.clear()
    _thread.used = None
    daemon.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _new_id() -> str:
    return f"{_process}-{next(_numbers)}"


def _unique(call: str) -> str:
    """An id that a program has given out twice would leave the second call unmarked."""
    return call if call not in _open else f"{call[: LONGEST_NAME // 8]}~{_new_id()}"


def shortened(text: str) -> str:
    """At most ``LONGEST_NAME`` bytes of it."""
    return str(text).encode("utf-8", "replace")[:LONGEST_NAME].decode("utf-8", "ignore")


def current() -> Optional[Call]:
    """The innermost open call for which this code runs.

    A call that another process has begun is none: a forked worker of a pool may work for
    anybody. A call may have been ended where this context could not see it.
    """
    call = _current.get()
    while call is not None and not (call.is_open and call.pid == os.getpid()):
        call = call.parent
    return call


def is_in_event_loop() -> bool:
    """Whether several tasks share this thread. asyncio is not imported for it."""
    events = sys.modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None


def may_serve_others() -> bool:
    """Whether this may be a pool's worker, for which having no call does not mean that it has none."""
    if _is_forked or threading.get_native_id() != os.getpid():
        return True
    processes = sys.modules.get("multiprocessing.process")
    return processes is not None and processes.parent_process() is not None


def ask(message: Message) -> bool:
    """Says something to the daemon on behalf of this thread."""
    if _thread.is_speaking:
        # A signal's handler has come in between: it must not wait for what it interrupts.
        daemon.give_up()
        return False
    _thread.is_speaking = True
    try:
        return daemon.ask(message)
    finally:
        _thread.is_speaking = False


def begin(tool: str, call: Optional[str], kind: str, scope: str, owner: object = None) -> Call:
    """Begins a call for the code that runs in this context from now on."""
    begun = Call(tool, call, kind, scope, owner)
    _current.set(begun)
    if is_there():
        _thread.used = _UNKNOWN
        ask(begun.message())
    # Only now: connecting announces those that are open, and this one once is enough.
    _open[begun.id] = begun
    return begun


def is_there() -> bool:
    """Whether a daemon listens. Connects if need be."""
    if daemon.is_away:
        return False
    if _thread.is_speaking:
        daemon.give_up()
        return False
    _thread.is_speaking = True
    try:
        return daemon.is_there()
    finally:
        _thread.is_speaking = False


def end(call: Call) -> None:
    """Ends a call, in whatever thread or context."""
    call.is_open = False
    if _current.get() is call:
        _current.set(call.parent)
    if call.pid != os.getpid() or _open.pop(call.id, None) is None:
        return
    if not daemon.is_away:
        _thread.used = _UNKNOWN
        ask({"op": "end", "call": call.id})


def use(call: Optional[Call], caller: Optional[List[str]] = None) -> None:
    """Says that this thread works for ``call`` from now on, unless it is known to already."""
    if daemon.is_away:
        return
    wanted = (call.id if call else None, tuple(caller) if caller else ())
    if _thread.used == (daemon.connections, *wanted):
        return
    said: Dict[str, Any] = {"op": "use", "call": wanted[0], "tid": threading.get_native_id()}
    if caller:
        said["caller"] = caller
    if ask(said):
        _thread.used = (daemon.connections, *wanted)
    else:
        # Not for whom it should: then not for whom it did, either.
        _thread.used = _UNKNOWN
        inherit()


def inherit() -> None:
    """Takes back what :func:`use` has said of this thread: it is nobody's in particular."""
    said = {"op": "use", "inherit": True, "tid": threading.get_native_id()}
    if _thread.used is not None and ask(said):
        _thread.used = None


def resume() -> None:
    """After work for another call: this thread is again what it was before."""
    call = current()
    if call is None:
        inherit()
    else:
        use(call)


def share() -> None:
    """Says that this process is a pool's worker, whatever call it was started in."""
    global _is_shared
    if not _is_shared:
        _is_shared = True
        # A new connection says it by itself.
        if daemon.is_connected:
            ask({"op": "shared"})


def register(
    tools: Iterable[str] = (), models: Iterable[str] = (), retrievers: Iterable[str] = ()
) -> None:
    """Tells what this agent could use, so that what was never used can be named.

    May be called again: what is new is added.
    """
    new: Dict[str, List[str]] = {}
    for key, names in (("tools", tools), ("models", models), ("retrievers", retrievers)):
        known = _registered[key]
        new[key] = [name for name in map(shortened, names) if name not in known]
        known.extend(new[key])
    # A new connection says all of it.
    if daemon.is_connected:
        for message in hellos(CLIENT, new):
            ask(message)
    else:
        is_there()
