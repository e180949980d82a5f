"""Connections to servers, kept by each thread: requests by the standard library's client, its header parser aside.

Certificates and proxies are as the environment, or the fetch, has them.
"""

import contextlib
import functools
import http.client
import socket
import ssl
import threading
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit

from tusz_cache.stores.answer import Answer
from tusz_cache.stores.base import HttpFetch

Connections = dict[tuple[str, str], http.client.HTTPConnection]

_thread = threading.local()


def request(
    method: str, fetch: HttpFetch, headers: Mapping[str, str], timeout: float
) -> tuple[http.client.HTTPResponse, socket.socket | None]:
    """Send a request; return the answer, and the socket its body comes from if that stays open.

    timeout: seconds without an answer. Raises OSError and http.client.HTTPException, the connection being dropped.
    """
    url = urlsplit(fetch.url)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if url.scheme == "http" and _proxy(url.scheme, url.netloc):
        path = fetch.url
    for attempt in (1, 2):
        connection, fresh = _connection(url.scheme, url.netloc, fetch, timeout)
        try:
            connection.request(method, path, headers=dict(headers))
            return connection.getresponse(), connection.sock
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            drop_connections()
            if fresh or attempt == 2:  # a kept connection may have been closed while idle; a fresh one may not
                raise
        except (OSError, http.client.HTTPException):
            drop_connections()
            raise
    raise AssertionError


def _connection(scheme: str, netloc: str, fetch: HttpFetch, timeout: float) -> tuple[http.client.HTTPConnection, bool]:
    """Return this thread's connection to the host, and whether it is fresh."""
    held = connections()
    if (connection := held.get((scheme, netloc))) is not None:
        return connection, False
    proxy = _proxy(scheme, netloc)
    host = proxy or netloc
    if scheme == "https":
        context = _tls(fetch.cafile, fetch.verify)
        connection = http.client.HTTPSConnection(host, timeout=timeout, context=context)
        if proxy:
            connection.set_tunnel(netloc)
    else:
        connection = http.client.HTTPConnection(host, timeout=timeout)
    connection.response_class = Answer
    held[scheme, netloc] = connection
    return connection, True


def connections() -> Connections:
    """Return this thread's open connections, by scheme and host."""
    held: Connections | None = getattr(_thread, "connections", None)
    if held is None:
        held = _thread.connections = {}
    return held


def break_off(held: Connections) -> None:
    """Break another thread's connections: whoever waits for an answer or reads one gets an error."""
    for connection in list(held.values()):
        if connection.sock is not None:
            with contextlib.suppress(OSError):  # it broke by itself
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)  # not SSLSocket's, which pulls the rug away


def drop_connections() -> None:
    """Close this thread's connections: after an error their state is unknown."""
    held = connections()
    for connection in held.values():
        connection.close()
    held.clear()


@functools.cache
def _tls(cafile: str | None, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=cafile)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@functools.cache
def _proxy(scheme: str, netloc: str) -> str | None:
    """Return host:port of the proxy that the environment names for this host, if any."""
    host = netloc.rpartition("@")[2].partition(":")[0]
    if urllib.request.proxy_bypass(host):
        return None
    proxy = urllib.request.getproxies().get(scheme)
    return urlsplit(proxy).netloc or None if proxy else None
