"""
The tree of a configuration's routes, and the pools of connections behind it.

A new configuration makes a new tree.  Pools outlive trees: routes to the same destination, reached in the
same way, keep its connections.  A pool that no route needs any more closes its connections once their
responses are complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from twisted.logger import ILogObserver

from logging_proxy.configuration.options import Configuration, RouteOptions, UpstreamTLS
from logging_proxy.http.deadlines import Deadlines
from logging_proxy.http.heads import parse_response_head
from logging_proxy.http.limits import RESPONSE_FIELDS, RESPONSE_HEAD_LIMIT
from logging_proxy.http.pool import ClientLimits, Pool
from logging_proxy.outbound.addresses import ProxyAddress
from logging_proxy.outbound.forwarding import forwarding_for, parse_forwarded_head
from logging_proxy.outbound.ourselves import Ourselves
from logging_proxy.outbound.settings import proxy_for
from logging_proxy.proxy.endpoints import endpoint_for
from logging_proxy.proxy.exchange import Exchange
from logging_proxy.proxy.headers import ForwardedPolicy
from logging_proxy.proxy.hosts import local_hosts
from logging_proxy.proxy.surroundings import Surroundings
from logging_proxy.proxy.tree import Ids, RouteResource, RouteTree
from logging_proxy.recording.events import Recorder, publisher
from logging_proxy.routing.mapping import Destination

PoolKey = tuple[str, str, int, UpstreamTLS | None, ProxyAddress | None, ClientLimits]


class Forwarding:
    """Makes trees of routes; `tree` is the one in use."""

    def __init__(
        self,
        reactor: Any,
        recorder: Recorder | None,
        observers: Callable[[Configuration], Iterable[ILogObserver]],
        ourselves: Ourselves | None = None,
        hostname: str = "",
    ) -> None:
        """
        `observers` gives the observers that a configuration asks for.

        `ourselves` are listeners that no request may be forwarded to; `hostname` is this machine's.
        """
        self._reactor = reactor
        self._hostname = hostname
        self._ourselves = Ourselves() if ourselves is None else ourselves
        self._recorder = recorder
        self._observers = observers
        self._deadlines = Deadlines(reactor)
        self._pools: dict[PoolKey, Pool] = {}
        self._trees: list[RouteTree] = []

    @property
    def tree(self) -> RouteTree:
        return self._trees[-1]

    def use(self, configuration: Configuration) -> RouteTree:
        """
        The tree of `configuration`, which replaces the present one.

        A tree that cannot be made raises before anything has changed.
        """
        before, pools = self._pools, dict[PoolKey, Pool]()
        tree = self._tree(configuration, pools)
        self._pools = pools
        for key, pool in before.items():
            if key not in pools:
                pool.close()
        self._trees = [each for each in self._trees if any(route.exchanges for route in each.routes)]
        self._trees.append(tree)
        return tree

    def exchanges(self) -> Iterator[Exchange]:
        """All exchanges under way, those of replaced trees included."""
        for tree in self._trees:
            for route in tree.routes:
                yield from list(route.exchanges)

    def close(self) -> None:
        """Close idle connections now, and the others when their responses are complete."""
        for pool in self._pools.values():
            pool.close()

    # --- building ------------------------------------------------------------------------

    def _tree(self, configuration: Configuration, pools: dict[PoolKey, Pool]) -> RouteTree:
        """A tree for `configuration`; its pools, new ones and present ones, are put into `pools`."""
        server, logging = configuration.server, configuration.logging
        surroundings = Surroundings(
            recorder=self._recorder,
            policy=ForwardedPolicy(server.forwarded, server.via),
            publish=publisher(*self._observers(configuration)),
            record_unknown=logging.default,
            not_found=server.not_found.encode(),
            takes_host=self._host_check(configuration),
        )
        ids = Ids(surroundings.random)
        tree = RouteTree(ids, surroundings)
        for route in configuration.routes:
            proxy = proxy_for(route.destination, configuration.proxies)
            pool = self._pool(route, proxy, client_limits(configuration), pools)
            forwarding = forwarding_for(route.destination, proxy)
            tree.mount(RouteResource(route, pool, ids, surroundings, forwarding))
        return tree

    def _host_check(self, configuration: Configuration) -> Callable[[bytes], bool]:
        """The check of a request's host: any is allowed, unless all listeners are on loopback."""
        server = configuration.server
        patterns = (route.pattern.host.decode("latin-1") for route in configuration.routes)
        hosts = local_hosts([server.host, self._hostname, *server.allowed_hosts, *filter(None, patterns)])
        ourselves = self._ourselves
        return lambda host: not ourselves.loopback or hosts.include(host)

    def _pool(
        self,
        route: RouteOptions,
        proxy: ProxyAddress | None,
        limits: ClientLimits,
        pools: dict[PoolKey, Pool],
    ) -> Pool:
        """The pool for a route; routes with the same destination, way and limits share one."""
        to = route.destination
        key = (to.scheme, to.host, to.port, route.tls, proxy, limits)
        pool = pools.get(key) or self._pools.get(key)
        if pool is None:
            pool = self._new_pool(to, route.tls, proxy, limits)
        pools[key] = pool
        return pool

    def _new_pool(
        self, to: Destination, tls: UpstreamTLS | None, proxy: ProxyAddress | None, limits: ClientLimits
    ) -> Pool:
        forwards = forwarding_for(to, proxy) is not None
        return Pool(
            endpoint_for(self._reactor, to, limits.connect_timeout, tls, proxy, self._ourselves),
            self._reactor,
            self._deadlines,
            limits,
            secure=to.scheme == "https",
            name=to.authority.decode(),
            parse_head=parse_forwarded_head if forwards else parse_response_head,
        )


def client_limits(configuration: Configuration) -> ClientLimits:
    """The limits that `configuration` sets for upstream connections."""
    client, server = configuration.http_client, configuration.server
    return ClientLimits(
        connect_timeout=client.connect_timeout,
        head_timeout=client.head_timeout,
        stream_timeout=client.stream_timeout,
        head_limit=max(server.head_limit, RESPONSE_HEAD_LIMIT),
        header_fields=max(server.header_fields, RESPONSE_FIELDS),
        pool_idle_timeout=client.pool_idle_timeout,
        pool_size=client.pool_size,
        pool_max_age=client.pool_max_age,
    )
