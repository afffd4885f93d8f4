"""A daemon that only answers: for what the client itself does when it is asked, or not answered."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from typing import Callable, List, Optional

Answer = Callable[[dict], Optional[bytes]]


def agree(_message: dict) -> bytes:
    return b'{"ok":true}'


class Server:
    """Listens until the end of ``with``; ``said`` holds every message, over all connections."""

    def __init__(self, answer: Answer = agree, path: Optional[str] = None) -> None:
        self.answer = answer
        self.path = path or os.path.join(tempfile.mkdtemp(), "mark.sock")
        self.said: List[dict] = []
        self.connections = 0
        self._peers: List[socket.socket] = []

    def __enter__(self) -> "Server":
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.path)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self._peers:
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            peer.close()
        os.unlink(self.path)

    def of(self, operation: str) -> List[dict]:
        """The messages of one operation."""
        return [message for message in self.said if message["op"] == operation]

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._peers.append(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        try:
            while True:
                data = peer.recv(8192)
                if not data:
                    return
                assert len(data) <= 4096
                message = json.loads(data)
                self.said.append(message)
                answer = self.answer(message)
                if answer is None:
                    peer.close()
                    return
                peer.send(answer)
        except OSError:
            return
