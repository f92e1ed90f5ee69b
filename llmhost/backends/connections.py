"""The pooled connections to one upstream, and when they must not be used any more.

A node's Unix socket may be a symbolic link that is swapped to another link's socket (make before break, tunnel facts D5). What was pooled
over the old one is then never used again, while answers that run over it go on to their end.
"""

from __future__ import annotations

import asyncio
import os

import aiohttp

CONNECT_TIMEOUT_S = 3.0
# Below every keep-alive limit we meet (Ollama has none, our own server's is longer), so that a pooled connection is never one the
# other side is closing at this moment.
POOL_IDLE_S = 30.0
LOOK_EVERY_S = 0.25  # whether the symbolic link was swapped, while requests wait for their first byte


class Pool:
    """One set of connections; `target` is where the symbolic link pointed when it was made (None: it is none).

    `answered` = a connection of it may have been put back, so that one found dead may have died unnoticed while it was idle.
    """

    def __init__(self, socket: str | None, target: str | None) -> None:
        self.target = target
        self.running = 0
        self.retired = False
        self.answered = False
        connector: aiohttp.BaseConnector = (
            aiohttp.UnixConnector(socket, limit=0, keepalive_timeout=POOL_IDLE_S)
            if socket
            # Names as the system has them (hosts files, mDNS): with aiodns installed, which vastai brings, aiohttp would ask DNS by itself.
            else aiohttp.TCPConnector(limit=0, keepalive_timeout=POOL_IDLE_S, resolver=aiohttp.ThreadedResolver())
        )
        self.session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("user-agent", "accept-encoding"),
            read_bufsize=1 << 20,
        )


class Connections:
    """The pool in use, and those before it that still have answers under way. `socket` None: TCP."""

    def __init__(self, socket: str | None) -> None:
        self._socket = socket
        self._pool: Pool | None = None
        self._waiting: dict[asyncio.Timeout, Pool] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self) -> Pool:
        """The pool for a new request; to be given to `release` afterwards."""
        if self._pool is not None and self.is_stale(self._pool):
            await self.renew(self._pool)
        if self._pool is None:
            self._pool = Pool(self._socket, self._target())
        self._pool.running += 1
        return self._pool

    async def release(self, pool: Pool) -> None:
        pool.running -= 1
        if pool.retired and pool.running == 0:
            await pool.session.close()

    async def renew(self, pool: Pool) -> None:
        """Use `pool` no more for new requests."""
        if self._pool is pool:
            self._pool = None
        pool.retired = True
        if pool.running == 0:
            await pool.session.close()

    def is_stale(self, pool: Pool) -> bool:
        return pool.target != self._target()

    def watch(self, limit: asyncio.Timeout, pool: Pool) -> None:
        """Let `limit` run out as soon as the symbolic link points elsewhere; until `unwatch`."""
        if pool.target is None:
            return
        self._waiting[limit] = pool
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look)

    def unwatch(self, limit: asyncio.Timeout) -> None:
        self._waiting.pop(limit, None)

    async def aclose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._pool is not None:
            await self._pool.session.close()

    def _look(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        target = self._target()
        for limit, pool in list(self._waiting.items()):
            if target is not None and pool.target != target:
                del self._waiting[limit]
                limit.reschedule(loop.time())
        self._timer = loop.call_later(LOOK_EVERY_S, self._look)

    def _target(self) -> str | None:
        if self._socket is None:
            return None
        try:
            return os.readlink(self._socket)
        except OSError:  # a plain socket, or nothing there at the moment
            return None
