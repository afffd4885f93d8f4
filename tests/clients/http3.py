"""HTTP/3, both sides.

    http3.py serve ADDRESS PORT CERTIFICATE KEY
    http3.py get HOST PORT        prints the status; the certificate is not verified
"""

import asyncio
import ssl
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration


class Server(QuicConnectionProtocol):
    """Answers every request with 204."""

    http = None

    def quic_event_received(self, event):
        self.http = self.http or H3Connection(self._quic)
        for heard in self.http.handle_event(event):
            if isinstance(heard, HeadersReceived):
                answer = [(b":status", b"204")]
                self.http.send_headers(heard.stream_id, answer, end_stream=True)
                self.transmit()


class Client(QuicConnectionProtocol):
    """Asks once."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.http = H3Connection(self._quic)
        self.status = asyncio.get_running_loop().create_future()

    async def get(self, host):
        stream = self._quic.get_next_available_stream_id()
        head = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/")]
        head.append((b":authority", host.encode()))
        self.http.send_headers(stream, head, end_stream=True)
        self.transmit()
        return await asyncio.wait_for(self.status, 10)

    def quic_event_received(self, event):
        for heard in self.http.handle_event(event):
            if isinstance(heard, HeadersReceived) and not self.status.done():
                self.status.set_result(dict(heard.headers)[b":status"])


async def main(verb, host, port, *files):
    settings = QuicConfiguration(is_client=verb == "get", alpn_protocols=H3_ALPN)
    if verb == "serve":
        settings.load_cert_chain(*files)
        await serve(host, int(port), configuration=settings, create_protocol=Server)
        await asyncio.Future()
    settings.verify_mode = ssl.CERT_NONE
    async with connect(host, int(port), configuration=settings, create_protocol=Client) as client:
        print((await client.get(host)).decode())


asyncio.run(main(*sys.argv[1:]))
