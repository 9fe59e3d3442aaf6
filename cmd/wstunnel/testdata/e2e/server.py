"""An echo server on python3-websockets.

    server.py [--unix PATH] [--cert FILE --key FILE] [--no-compression]

It prints "listening on ADDRESS", then one line for each connection that ends. Text that begins with
a slash is a command: /request, /close [CODE [REASON]], /ping PAYLOAD, /fragments.
"""

import argparse
import asyncio
import json
import ssl

import websockets


async def command(socket, text):
    words = text.split(" ", 2)
    if words[0] == "/request":
        await socket.send(json.dumps({"path": socket.path, "headers": dict(socket.request_headers.raw_items())}))
    elif words[0] == "/close":
        code = int(words[1]) if len(words) > 1 else 1000
        await socket.close(code, words[2] if len(words) > 2 else "")
    elif words[0] == "/ping":
        await (await socket.ping(words[1].encode()))
        await socket.send("pong " + words[1])
    elif words[0] == "/fragments":
        await socket.send(["one ", "two ", "three"])
    else:
        await socket.close(4000, "unknown command")


async def serve(socket):
    try:
        async for message in socket:
            if isinstance(message, str) and message.startswith("/"):
                await command(socket, message)
            else:
                await socket.send(message)
    except websockets.ConnectionClosed:
        pass
    await socket.wait_closed()
    received = socket.close_rcvd
    print(f"close {received.code} {received.reason}" if received else "gone without Close", flush=True)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--unix")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--no-compression", action="store_true")
    options = parser.parse_args()

    settings = {
        "compression": None if options.no_compression else "deflate",
        "subprotocols": ["chat.v2", "chat.v1"],
        "select_subprotocol": lambda offered, known: next((p for p in known if p in offered), None),
        "max_size": None,
        "extra_headers": [("Set-Cookie", "socket=seen; Path=/")],
    }
    if options.cert:
        settings["ssl"] = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        settings["ssl"].load_cert_chain(options.cert, options.key)
    if options.unix:
        server = await websockets.unix_serve(serve, options.unix, **settings)
        address = options.unix
    else:
        server = await websockets.serve(serve, "127.0.0.1", 0, **settings)
        address = "%s:%d" % server.sockets[0].getsockname()
    print("listening on", address, flush=True)
    await server.wait_closed()


asyncio.run(main())
