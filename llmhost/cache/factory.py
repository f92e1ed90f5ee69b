"""The store that a configuration asks for."""

from __future__ import annotations

from llmhost.cache.base import CacheStore
from llmhost.cache.memory import MemoryStore
from llmhost.core.server_config import CacheConfig


def open_store(config: CacheConfig, secret: bytes) -> CacheStore:
    """Memory, or Redis with memory behind it; nothing is connected before `start`.

    `secret` binds values in a shared Redis to whoever knows it: gateways with different secrets do not see each other's answers.
    Raises UsageError for settings that can never work; an unreachable Redis is not one.
    """
    memory = MemoryStore(config.max_bytes)
    if config.redis is None:
        return memory
    from llmhost.cache.failover import FailoverStore  # the client library takes 0.3 s to import; most have no Redis
    from llmhost.cache.redis_address import redis_address
    from llmhost.cache.redis_store import RedisStore

    redis = RedisStore(redis_address(config.redis), config.namespace, secret, config.timeout_s)
    return FailoverStore(redis, memory)
