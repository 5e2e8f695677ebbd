"""A TCP proxy before a camera, whose connections a test cuts."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path


class TcpProxy:
    """Listens on loopback and hands everything on to a port; after :meth:`cut` nothing gets through until it heals.

    With a certificate it speaks TLS to whoever connects, and the camera gets what is left of it. Who ends the
    connection before asking anything, as one that does not trust the certificate, is no visitor of the camera's.
    Each connection that begins while there is an ``allowance`` ends when so many bytes came from the camera.
    """

    def __init__(self, port: int, certificate: "Certificate | None" = None) -> None:
        self._tls = None if certificate is None else certificate.context()
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.allowance: int | None = None
        self._is_cut = False
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close every connection, and each that comes."""
        self._is_cut = True
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._sockets.clear()

    def heal(self) -> None:
        """Let connections through again."""
        self._is_cut = False

    def close(self) -> None:
        """Cut, and listen no more."""
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._is_cut:
                    near.close()
                    continue
                asked = b""
                if self._tls is not None:
                    if (secured := _secured(self._tls, near)) is None:
                        continue
                    near, asked = secured
                try:
                    far = socket.create_connection(self._target, timeout=10)
                    far.sendall(asked)
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                self._sockets += [near, far]
                for one, other, allowance in ((near, far, None), (far, near, self.allowance)):
                    threading.Thread(target=_hand_on, args=(one, other, allowance), daemon=True).start()


def _secured(context: ssl.SSLContext, near: socket.socket) -> tuple[socket.socket, bytes] | None:
    """Return a connection over TLS with the first that it asks; None where it asks nothing."""
    near.settimeout(10)
    try:
        secured = context.wrap_socket(near, server_side=True)
    except OSError:  # it does not trust the certificate
        near.close()
        return None
    asked = b""
    with contextlib.suppress(OSError):
        asked = secured.recv(65_536)  # FFmpeg's GnuTLS looks at the certificate behind the handshake
    if not asked:
        secured.close()
        return None
    secured.settimeout(None)
    return secured, asked


class Certificate:
    """A self-signed certificate of this machine's address, made in a folder by openssl."""

    def __init__(self, folder: Path) -> None:
        self.path, self._key = folder / "certificate.pem", folder / "key.pem"
        subprocess.run(
            [
                *(shutil.which("openssl") or "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"),
                *("-subj", "/CN=camera", "-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", str(self._key), "-out", str(self.path)),
            ],
            check=True,
            capture_output=True,
        )

    def context(self) -> ssl.SSLContext:
        """Return how a server shows it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self._key)
        return context


def why_no_certificates() -> str:
    """Return why this machine makes no certificates, for a skip; nothing where it does."""
    return "" if shutil.which("openssl") else "Debian's openssl is not installed"


def _hand_on(one: socket.socket, other: socket.socket, allowance: int | None) -> None:
    left = 2**62 if allowance is None else allowance
    with contextlib.suppress(OSError):
        while data := one.recv(min(65_536, left)) if left else b"":
            other.sendall(data)
            left -= len(data)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
