#!/usr/bin/env python3
"""WebAsync is web.py in one thread, with asyncio. An old worker answers all requests that it has accepted."""

import asyncio
import sys
from contextlib import suppress

from sdsupervise import SupervisedDaemon

RELEASE = 1
ANSWER = b"HTTP/1.1 200 OK\r\nConnection: %s\r\nContent-Length: %d\r\n\r\n%s"


class WebAsync(SupervisedDaemon):
    """Says which release it is."""

    can_do_hot_reload = True
    handover = "overlap"  # the old worker serves until the new worker serves
    listen = {"http": "127.0.0.1:8080"}  # the supervisor opens it and keeps it open
    worker_timeout = 10  # a worker whose event loop hangs for 10 seconds is replaced

    async def supervised_process(self):
        self.connections = set()
        listener, loop = self.sockets["http"], asyncio.get_running_loop()
        listener.setblocking(False)
        await self.ready_to_take_over()
        loop.add_reader(listener, self.accept, listener)
        await self.draining  # until a signal to stop
        loop.remove_reader(listener)
        while self.connections:
            await asyncio.wait(self.connections)  # as long as stop_timeout allows

    def accept(self, listener):
        with suppress(BlockingIOError):  # another worker was faster
            task = asyncio.create_task(self.serve(listener.accept()[0]))
            self.connections.add(task)
            task.add_done_callback(self.connections.discard)

    async def serve(self, connection):
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            while not writer.is_closing():
                async with asyncio.timeout(5):  # seconds without a request, then the connection is closed
                    head = await reader.readuntil(b"\r\n\r\n")
                last = self.draining or b"\nconnection: close" in head.lower()  # the next goes to another worker
                body = b"release %d\n" % RELEASE
                writer.write(ANSWER % (b"close" if last else b"keep-alive", len(body), body))
                await writer.drain()
                if last:
                    writer.close()
            await writer.wait_closed()  # when all is sent
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.close()  # the client sends nothing, or too much, or has left

    async def supervised_shutdown(self):
        print(f"release {RELEASE} stops")


if __name__ == "__main__":
    sys.exit(WebAsync().run())
