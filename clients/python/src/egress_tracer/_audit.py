"""The audit hook: says right before a socket call for whom it is, and which package makes it.

It makes what shares a thread exact: tasks of asyncio, and the pools of libraries that run their
work in a copy of the context (``contextvars``). It costs a comparison for each audit event and, when
something is about to leave, a walk up the stack.
"""

from __future__ import annotations

import socket
import sys
from types import FrameType
from typing import Any, Dict, List, Optional

from . import _calls

#: Before what the hook looks. Children start as what the thread that starts them is.
EVENTS = frozenset(
    [
        "socket.connect",
        "socket.sendto",
        "socket.sendmsg",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.gethostbyaddr",
        "subprocess.Popen",
        "os.posix_spawn",
        "os.system",
        "os.exec",
    ]
)
#: How far up the stack is looked, how many packages are told, and how long their names may be.
DEEPEST, MOST_PACKAGES, LONGEST_PACKAGE = 100, 8, 64
#: How many modules' packages are remembered.
MOST_MODULES = 4096

_OWN = __name__.partition(".")[0]
_STANDARD = getattr(sys, "stdlib_module_names", frozenset())  # since Python 3.10
_packages: Dict[str, Optional[str]] = {}
_is_installed = False


def name_callers() -> None:
    """Installs the hook. Python has no way of taking one out again; a second call does nothing."""
    global _is_installed
    if not _is_installed:
        _is_installed = True
        sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple) -> None:
    if event not in EVENTS or _calls.daemon.is_away or _calls._thread.is_speaking:
        return
    try:
        if event.startswith("socket.") and _is_local(arguments[0]):
            return
        _say(sys._getframe(1))
    except Exception:
        # Whatever this raised would be raised by the program's socket call.
        _calls.daemon.unsaid += 1


def _is_local(subject: Any) -> bool:
    return isinstance(subject, socket.socket) and subject.family == socket.AF_UNIX


def _say(frame: Optional[FrameType]) -> None:
    call = _calls.current()
    if call is None and _calls.may_serve_others():
        # Nobody said whom this worker works for. The daemon knows what it inherited.
        _calls.inherit()
    else:
        _calls.use(call, callers(frame))


def callers(frame: Optional[FrameType]) -> List[str]:
    """The packages in the stack, the innermost first."""
    found: List[str] = []
    for _ in range(DEEPEST):
        if frame is None:
            break
        package = _package_of(frame.f_globals.get("__name__"))
        if package is not None and package not in found:
            found.append(package)
        frame = frame.f_back
    return found[:MOST_PACKAGES]


def _package_of(module: Any) -> Optional[str]:
    if not isinstance(module, str):
        return None
    if module not in _packages:
        if len(_packages) >= MOST_MODULES:
            _packages.clear()
        package = module.partition(".")[0][:LONGEST_PACKAGE]
        is_told = package not in _STANDARD and package not in ("__main__", "__mp_main__", _OWN)
        _packages[module] = package if package and is_told else None
    return _packages[module]
