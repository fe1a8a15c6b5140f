#!/usr/bin/env python3
"""WebAsync is web.py written for asyncio: one thread, one event loop, and no client that notices a reload.

Ask it:  curl http://127.0.0.1:8080
"""

import asyncio
import sys

from sdsupervise import SupervisedDaemon

RELEASE = 1
IDLE_SECONDS = 5  # without a request, then a connection is closed; so long may a last one take


class WebAsync(SupervisedDaemon):
    """Says which release it is."""

    can_do_hot_reload = True
    handover = "overlap"  # the old worker accepts until the new one does
    listen = {"http": "127.0.0.1:8080"}  # kept open by the supervisor, whatever becomes of workers
    worker_timeout = 10  # seconds for which the event loop may be stuck

    async def supervised_process(self):
        self.connections = set()
        listener, loop = self.sockets["http"], asyncio.get_running_loop()
        listener.setblocking(False)
        await self.ready_to_take_over()
        loop.add_reader(listener, self.accept, listener)
        await self.draining  # until we are told to stop
        loop.remove_reader(listener)
        while self.connections:  # stop_timeout says how long that may take
            await asyncio.wait(self.connections)

    def accept(self, listener):
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return  # another worker was faster
        task = asyncio.create_task(self.serve(connection))
        self.connections.add(task)
        task.add_done_callback(self.connections.discard)

    async def serve(self, connection):
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            keep = b"keep-alive"
            while keep != b"close":
                async with asyncio.timeout(IDLE_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                # Told to close, the client opens its next connection, which another worker accepts.
                keep = b"close" if self.draining or b"\r\nconnection: close" in head.lower() else b"keep-alive"
                body = b"release %d\n" % RELEASE
                writer.write(
                    b"HTTP/1.1 200 OK\r\nConnection: %s\r\nContent-Length: %d\r\n\r\n" % (keep, len(body)) + body
                )
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # it said nothing, has left, or talks too much
        finally:
            writer.close()

    async def supervised_shutdown(self):
        print(f"release {RELEASE} stops")


if __name__ == "__main__":
    sys.exit(WebAsync().run())
