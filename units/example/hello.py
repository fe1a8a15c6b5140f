"""Hello, for servers of either kind: `hello:application` for WSGI, `hello:app` for ASGI."""

import os
import subprocess

RELEASE = 1

ANSWER = f"release {RELEASE}\n".encode()


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(ANSWER)))])
    return [ANSWER]


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (event := await receive())["type"] != "lifespan.shutdown":
            if "NOTIFY_SOCKET" in os.environ:  # below a supervisor: all is imported, and the server about to accept
                subprocess.call(["sdsupervise", "ready"])
            await send({"type": event["type"] + ".complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(ANSWER))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": ANSWER})
