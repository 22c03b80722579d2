"""A slow link in user space: a relay with a round trip and a rate that all its connections share, in each direction.

Each byte leaves the relay half a round trip after the line had room for it. A new connection waits one round trip
before its first byte goes out, as the handshake would on a real line; TCP's slow start is not played.
"""

import asyncio
import contextlib
import threading

PIECE = 4096


class SlowLink:
    """Relays to `port` of this machine; listens on `self.port`."""

    def __init__(self, port, round_trip, bits_a_second):
        self.target = port
        self.half = round_trip / 2
        self.bytes_a_second = bits_a_second / 8
        self.up_free, self.down_free = [0.0], [0.0]
        self.bytes_down = 0
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        threading.Thread(target=self._run, args=(started,), daemon=True).start()
        started.wait()
        self.url = f"http://127.0.0.1:{self.port}"

    def _run(self, started):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=256))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self.loop.run_forever()

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)

    async def _serve(self, client_reader, client_writer):
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        await asyncio.sleep(2 * self.half)
        await asyncio.gather(
            self._carry(client_reader, server_writer, self.up_free),
            self._carry(server_reader, client_writer, self.down_free),
        )

    async def _carry(self, reader, writer, line_free):
        """A queue of as much as the line holds in a round trip lies between reading and writing."""
        line = asyncio.Queue(maxsize=max(2, int(2 * self.half * self.bytes_a_second / PIECE)))
        delivering = self.loop.create_task(self._deliver(line, writer))
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(PIECE):
                now = self.loop.time()
                line_free[0] = max(line_free[0], now) + len(piece) / self.bytes_a_second
                if line_free[0] - now > 0.002:
                    await asyncio.sleep(line_free[0] - now)
                await line.put((line_free[0] + self.half, piece))
        await line.put((self.loop.time() + self.half, b""))
        await delivering

    async def _deliver(self, line, writer):
        with contextlib.suppress(ConnectionError):
            while True:
                due, piece = await line.get()
                await asyncio.sleep(max(0, due - self.loop.time()))
                if not piece:
                    break
                writer.write(piece)
                await writer.drain()
        writer.close()
