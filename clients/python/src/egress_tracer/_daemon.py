"""The connection to the daemon: one a process, opened when it is first needed, never in the way.

Nothing in here raises into the program that is marked, and nothing makes it wait for longer than
``TIMEOUT``. Where no daemon listens, that is found out once and remembered for a while.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from typing import Any, Callable, Dict, Iterable, List, Optional

#: Where the daemon listens, unless ``EGRESS_TRACER_SOCKET`` says otherwise.
DEFAULT_PATH = "/run/egress-tracer/mark.sock"
#: How long an answer is waited for, in seconds. Ordinarily it takes some 20 microseconds; on a machine
#: that is busy enough, the daemon may not run for some hundred milliseconds. One that is gone is
#: known to be at once.
TIMEOUT = 0.8
#: How long a missing or failing daemon is left alone, in seconds: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
#: The longest message that the daemon takes, in bytes.
LONGEST_MESSAGE = 4096

Message = Dict[str, Any]


class Daemon:
    """What is said to the daemon. ``greet`` gives what a new connection begins with."""

    def __init__(self, greet: Callable[[], Iterable[Message]]) -> None:
        self._greet = greet
        self.forget()

    def forget(self) -> None:
        """Starts anew: at first, and in a forked child, whose parent keeps the connection."""
        inherited: Optional[socket.socket] = getattr(self, "_socket", None)
        self._lock = threading.Lock()
        self._socket: Optional[socket.socket] = None
        self._pause = FIRST_PAUSE
        self._retry_at = 0.0
        #: Whether the daemon may miss something of what is open.
        self._is_doubted = False
        #: How many connections there were: what was said on one is not known on the next.
        self.connections = 0
        #: How often something could not be said, or was refused.
        self.unsaid = 0
        if inherited is not None:
            inherited.close()

    @property
    def is_away(self) -> bool:
        """Whether nobody listens, as far as was found out lately. Costs a look at the clock."""
        return self._socket is None and time.monotonic() < self._retry_at

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._socket is not None

    def is_there(self) -> bool:
        """Connects if need be."""
        if self._socket is not None:
            return True
        return not self.is_away and self._locked(lambda: True)

    def ask(self, message: Message) -> bool:
        """Says ``message``; whether the daemon agreed."""
        if self.is_away:
            return False
        agreed = self._locked(lambda: self._exchange(message))
        self.unsaid += not agreed
        return agreed

    def give_up(self) -> None:
        """Goes on with something that cannot be said now, while another exchange is under way.

        The daemon must not take what it knows of this process for all that there is.
        """
        self.unsaid += 1
        self._is_doubted = True
        connection = self._socket
        if connection is not None:
            try:
                connection.send(b'{"op":"unsaid"}')
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It is being left already, which says as much.

    def _locked(self, act: Callable[[], bool]) -> bool:
        # A thread waits for others here that are answered in turn. Once one of them has given up,
        # the others find that out at once.
        if not self._lock.acquire(timeout=4 * TIMEOUT):
            self.give_up()
            return False
        try:
            if self._socket is None:
                self._connect()
            return act()
        except (OSError, ValueError):
            self._leave()
            return False
        finally:
            self._lock.release()

    def _connect(self) -> None:
        if time.monotonic() < self._retry_at:
            raise OSError("not yet")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = connection
        connection.settimeout(TIMEOUT)
        connection.connect(os.environ.get("EGRESS_TRACER_SOCKET") or DEFAULT_PATH)
        # Many calls may be open already; the program is not kept waiting for all of them.
        enough = time.monotonic() + TIMEOUT
        self.connections += 1
        for message in self._greet():
            self._exchange(message)
            if time.monotonic() > enough:
                self._is_doubted = True
                break
        else:
            if self._is_doubted:
                self._exchange({"op": "settled"})
                self._is_doubted = False
        self._pause = FIRST_PAUSE

    def _exchange(self, message: Message) -> bool:
        connection = self._socket
        if connection is None:
            raise OSError("not connected")
        connection.send(json.dumps(message, separators=(",", ":")).encode())
        answer = connection.recv(LONGEST_MESSAGE)
        if not answer:
            raise OSError("the daemon is gone")
        reply = json.loads(answer)
        if not isinstance(reply, dict) or not isinstance(reply.get("ok"), bool):
            raise ValueError("not an answer")
        return bool(reply["ok"])

    def _leave(self) -> None:
        if self._socket is not None:
            # Without having heard the answer: the daemon sees that.
            self._socket.close()
            self._is_doubted = True
        self._socket = None
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)


def hellos(client: str, registered: Dict[str, List[str]]) -> Iterable[Message]:
    """Says who speaks, and what is registered, in as many messages as that takes."""
    message: Message = {"op": "hello", "v": 1, "client": client}
    size = 200
    for key, names in registered.items():
        for name in names:
            length = len(json.dumps(name)) + len(key) + 8
            if size + length > LONGEST_MESSAGE:
                yield message
                message, size = {"op": "hello", "v": 1, "client": client}, 200
            message.setdefault(key, []).append(name)
            size += length
    yield message
