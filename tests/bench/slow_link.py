"""A slow link in user space: a relay with a round trip and a rate that all its connections share, in each direction.

Each byte leaves the relay half a round trip after the line had room for it. A new connection waits one round trip
before its first byte goes out, as the handshake would on a real line; TCP's slow start is not played. Connections that
want the line share it piece by piece, so that those that begin together with equal pictures also end together: the
least lucky case, in which all wait for their next first bytes at the same time.

`python3 tests/bench/slow_link.py` measures the link itself: what raw streams reach on it, and what raw sockets do that
fetch one picture after the other, each by a connection of its own.
"""

import asyncio
import contextlib
import socket
import threading
import time

PIECE = 4096
# Timers wake a little late; so much of the time that a line with work before it lost in this way is made up for.
CATCH_UP = 0.05
AT_ONCE = 0.0005


class SlowLink:
    """Relays to `port` of this machine; listens on `self.port`."""

    def __init__(self, port, round_trip, bits_a_second):
        self.target = port
        self.half = round_trip / 2
        self.bytes_a_second = bits_a_second / 8
        self.up_free, self.down_free = [0.0], [0.0]
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        started.wait()
        self.url = f"http://127.0.0.1:{self.port}"

    def _run(self, started):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=256))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self.loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0.01))
        self.loop.close()

    def stop(self):
        """Cuts whatever is open."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    async def _serve(self, client_reader, client_writer):
        # Cancelled by `stop`, of which asyncio's streams would otherwise complain.
        with contextlib.suppress(asyncio.CancelledError):
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
        sent = asked = self.loop.time()
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(PIECE):
                now = self.loop.time()
                # A piece that was there already could have gone as soon as the one before it had.
                ready = max(sent, now - CATCH_UP) if now - asked < AT_ONCE else now
                line_free[0] = sent = max(line_free[0], ready) + len(piece) / self.bytes_a_second
                if sent - now > 0.002:
                    await asyncio.sleep(sent - now)
                await line.put((sent + self.half, piece))
                asked = self.loop.time()
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


def measure(streams, pictures, picture_bytes, link_of):
    """The share of the link's rate that raw sockets reach, from the first byte to the last; and from the start."""
    server = socket.create_server(("127.0.0.1", 0), backlog=256)

    def answer(connection):
        with connection:
            connection.recv(1)
            connection.sendall(b"x" * picture_bytes)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    link = link_of(server.getsockname()[1])
    firsts, left = [], list(range(pictures))

    def fetch():
        while left:
            left.pop()
            with socket.create_connection(("127.0.0.1", link.port)) as connection:
                connection.send(b"?")
                came = len(connection.recv(1))
                firsts.append(time.monotonic())
                while piece := connection.recv(65536):
                    came += len(piece)
                assert came == picture_bytes

    begun = time.monotonic()
    threads = [threading.Thread(target=fetch) for _ in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    end = time.monotonic()
    link.stop()
    server.close()
    own = pictures * picture_bytes / link.bytes_a_second
    return own / (end - min(firsts)), own / (end - begun)


def main():
    link_of = lambda port: SlowLink(port, 0.2, 20_000_000)
    for streams in (1, 2, 8, 16):
        share, _ = measure(streams, streams, 16_000_000 // streams, link_of)
        print(f"{streams} raw streams: {share:.3f} of the rate", flush=True)
    _, share = measure(8, 120, 200 * 1024, link_of)
    print(f"pictures of 200 KiB, 8 raw sockets at a time: {share:.3f} of the rate", flush=True)


if __name__ == "__main__":
    main()
