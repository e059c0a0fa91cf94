#!/usr/bin/python3
"""A server on port 25 of every address of a machine, in one process. What it
does depends on the third part of the address:

    127.0.1.x   greets with 220 and reads QUIT
    127.0.2.x   greets with 554
    127.0.3.x   is silent
    127.0.4.x   closes the connection
    127.0.5.x   resets the connection
    127.0.6.x   greets a byte at a time, 10 ms each
    127.0.7.x   greets after a second
    127.0.8.x   sends an endless line that is no greeting
    127.0.9.x   sends endless 220- lines
"""

import asyncio
import socket
import struct

GREETING = b"220 mx.test ESMTP\r\n"


async def serve(reader, writer):
    connection = writer.get_extra_info("socket")
    kind = int(connection.getsockname()[0].split(".")[2])
    try:
        if kind == 1:
            writer.write(GREETING)
        elif kind == 2:
            writer.write(b"554 no\r\n")
        elif kind == 4:
            return
        elif kind == 5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        elif kind == 6:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in GREETING:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.01)
        elif kind == 7:
            await asyncio.sleep(1)
            writer.write(GREETING)
        elif kind in (8, 9):
            while True:
                writer.write(b"x" * 1000 if kind == 8 else b"220-more\r\n" * 100)
                await writer.drain()
        await reader.read()
    except OSError:
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", 25, backlog=8192)
    await server.serve_forever()


asyncio.run(main())
