"""A client on python3-websockets: one conversation with an echo server, reported as one line of JSON.

    client.py URL [--ca FILE] [--window-bits N] [--no-compression] [--close-by-server]

The server understands the commands of server.py and ws.php.
"""

import argparse
import asyncio
import hashlib
import json
import ssl

import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

TEXT = "compressible " * 80_000  # about 1 MB
NOISE = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(32 * 1024))  # 1 MiB


async def converse(socket, by_server):
    report = {
        "subprotocol": socket.subprotocol,
        "extensions": socket.response_headers.get("Sec-WebSocket-Extensions", ""),
        "cookie": socket.response_headers.get("Set-Cookie", ""),
    }

    async def ask(message):
        await socket.send(message)
        return await socket.recv()

    report["text"] = await ask(TEXT) == TEXT
    report["binary"] = await ask(NOISE) == NOISE
    report["empty"] = await ask("") == ""
    report["fragments_sent"] = await ask([TEXT[:70_000], "", TEXT[70_000:]]) == TEXT
    report["fragments_received"] = await ask("/fragments")
    await (await socket.ping(b"are you there"))
    report["ping_sent"] = True
    report["ping_received"] = await ask("/ping hello")
    report["request"] = json.loads(await ask("/request"))
    if by_server:
        await socket.send("/close 4001 enough said")
        await socket.wait_closed()
    else:
        await socket.close(4002, "good bye")
    report["close"] = f"{socket.close_code} {socket.close_reason}"
    return report


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--ca")
    parser.add_argument("--window-bits", type=int)
    parser.add_argument("--no-compression", action="store_true")
    parser.add_argument("--close-by-server", action="store_true")
    options = parser.parse_args()

    settings = {}
    if options.ca:
        settings["ssl"] = ssl.create_default_context(cafile=options.ca)
    if options.window_bits:
        settings["extensions"] = [ClientPerMessageDeflateFactory(
            client_no_context_takeover=True, server_max_window_bits=options.window_bits)]
    async with websockets.connect(
        options.url,
        origin="https://chat.example",
        extra_headers={"Cookie": "session=abc; theme=dark"},
        subprotocols=["chat.v1", "chat.v2"],
        compression=None if options.no_compression else "deflate",
        max_size=None,
        **settings,
    ) as socket:
        print(json.dumps(await converse(socket, options.close_by_server)))


asyncio.run(asyncio.wait_for(main(), 30))
