"""One request to a server that may do anything: stall, cut, redirect in circles, or never end its headers."""

import http.client
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress

CHUNK_SIZE = 2**16  # bytes
TIMEOUT = 30  # seconds without receiving a byte; and seconds until the headers are complete


class Refused(Exception):
    """What a server did instead of sending the file; it would do the same again."""


class ConnectionLost(Exception):
    """Why a connection ended; the next one may work."""


def one_line(text: object) -> str:
    """What a server said, short enough for a message and without control characters."""
    shown = "".join(letter if letter.isprintable() else " " for letter in str(text)[:200])
    return " ".join(shown.split())


def check_url(url: str) -> None:
    """Raise ValueError unless this is a complete http or https URL."""
    try:
        parts = urllib.parse.urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets or a port that make no sense
        sound = False
    if not sound or not url.isascii() or any(character <= " " for character in url):
        raise ValueError(f"url: expected an http or https URL, got {url[:200]!r}")


def request(url: str, headers: dict[str, str]) -> http.client.HTTPResponse | urllib.error.HTTPError:
    """Send one GET request, following redirects to other http and https URLs.

    Returns:
        A response with the status 200, 206 (a range) or 416 (the range begins after the end of the file).

    Raises:
        Refused: a status that cannot be the file, or a redirect to something else than http or https.
        ConnectionLost: no complete headers within `TIMEOUT` seconds, or no connection.
        urllib.error.HTTPError: another status.
    """
    opener = urllib.request.build_opener(_HttpHandler, _HttpsHandler, _RedirectHandler)
    sent = urllib.request.Request(url, headers={"User-Agent": "course_utils", **headers})
    try:
        response = opener.open(sent, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        return error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ConnectionLost(one_line(reason) or type(reason).__name__) from error
    except ValueError as error:  # a host name that cannot be encoded
        raise Refused(f"is no valid URL, or redirects to none ({one_line(error)})") from error
    if response.status not in (200, 206):
        response.close()
        raise Refused(f"answered {response.status} {one_line(response.reason)}")
    return response


def read_chunk(response: http.client.HTTPResponse) -> bytes:
    """Read what has arrived, at most `CHUNK_SIZE` bytes: nothing of it is lost if the rest never comes."""
    try:
        return response.read1(CHUNK_SIZE)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ConnectionLost(one_line(error) or type(error).__name__) from error


class _HeaderDeadline:
    """Closes a connection whose headers are not complete after `TIMEOUT` seconds.

    The timeout of a socket is not enough: it starts again with every byte.
    """

    def getresponse(self) -> http.client.HTTPResponse:
        start = time.monotonic()
        timer = threading.Timer(TIMEOUT, _shut_down, (self.sock,))
        timer.daemon = True
        timer.start()
        try:
            response = super().getresponse()
        finally:
            timer.cancel()
        if time.monotonic() - start >= TIMEOUT:  # http.client takes cut headers for complete ones
            response.close()
            raise TimeoutError(f"no complete headers after {TIMEOUT} seconds")
        return response


def _shut_down(connected: socket.socket) -> None:
    with suppress(OSError):  # closed already
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


class _HttpConnection(_HeaderDeadline, http.client.HTTPConnection):
    pass


class _HttpsConnection(_HeaderDeadline, http.client.HTTPSConnection):
    pass


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, sent: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpConnection, sent)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, sent: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpsConnection, sent)


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, sent, response, code, message, headers, url):
        response.close()  # the page that comes with a redirect is not read: it may never end
        try:
            check_url(url)
        except ValueError as error:
            raise Refused(f"redirects to {url[:200]!r}, which is no http or https URL") from error
        return super().redirect_request(sent, response, code, message, headers, url)
