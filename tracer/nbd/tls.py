"""TLS around an NBD state machine, without I/O.

A Secured is a state machine too: what is sent and received through it is what its Client or Server
sends and receives, first as it is, and encrypted once the two sides have agreed on TLS. A
connection without TLS has no Secured, and so no cost.
"""

import ssl
from typing import Generic, Protocol, TypeVar

from tracer.errors import TlsError
from tracer.op import Buffer

Message = TypeVar("Message")

RECEIVE = 256 * 1024
"""Bytes of ciphertext that one system call receives: as ``nbd.inbox.CAPACITY``."""

ENCRYPT = 1 << 20
"""Bytes of ciphertext that wait to be sent before more is encrypted. What is more than a socket
takes at once gains nothing; and what is not encrypted yet counts as not fetched by the peer."""

MAX_UNREAD = 8 * ENCRYPT
"""Bytes of ciphertext that a peer may leave unread. TLS itself answers some of a peer's messages,
so a peer that sends them without end and reads nothing must not take our memory."""

JOIN = 16 * 1024
"""Bytes up to which buffers are joined before they are encrypted: a TLS record has at most as many,
and each record costs about as much as encrypting a few KiB."""

STEP = 64 * 1024
"""Bytes to encrypt in one call."""

UNKNOWN_CA = (18, 19, 20, 21)
"""What OpenSSL calls a certificate whose authority is not trusted: from
X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT to X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE."""


class Machine(Protocol[Message]):
    """The common interface of ``nbd.client.Client`` and ``nbd.server.Server``."""

    outgoing: list[Buffer]
    cleartext: list[Buffer] | None

    def target(self) -> memoryview: ...
    def received(self, count: int) -> list[Message]: ...


class Secured(Generic[Message]):
    """A machine inside of TLS.

    ``hostname`` is the name to look for in the peer's certificate, if the context asks for that;
    only a client has one.
    """

    def __init__(
        self,
        machine: Machine[Message],
        context: ssl.SSLContext,
        *,
        server_side: bool,
        hostname: str | None = None,
    ) -> None:
        self._machine = machine
        self._from_peer = ssl.MemoryBIO()
        self._to_peer = ssl.MemoryBIO()
        try:
            self._tls = context.wrap_bio(self._from_peer, self._to_peer, server_side, hostname)
        except ValueError as error:  # a hostname that can be no hostname
            raise TlsError(f"no certificate has the name {hostname!r}: {error}") from error
        self._begun = False
        self._ready = False
        self._failed = False
        self._ended = False
        self._received = memoryview(b"")
        self._ciphertext: list[Buffer] = []

    @property
    def outgoing(self) -> list[Buffer]:
        """The bytes to send, encrypted or not. Whoever sends them takes them off the list."""
        if not self._begun:
            return self._machine.outgoing
        if self._ready and not self._failed and self._machine.outgoing:
            self._encrypt()
        return self._ciphertext

    @property
    def shaking(self) -> bool:
        """Whether the TLS handshake has begun and is not done."""
        return self._begun and not self._ready

    def target(self) -> memoryview:
        """Return the memory for the next received bytes."""
        return self._received if self._begun else self._machine.target()

    def received(self, count: int) -> list[Message]:
        """Take ``count`` bytes that were received into ``target()``; return the machine's messages.

        Raises TlsError if TLS fails, and what the machine raises.
        """
        if not self._begun:
            found = self._machine.received(count)
            if self._machine.cleartext is not None:
                self._begin(self._machine.cleartext)
            return found
        if self._ended:
            raise TlsError("it sent data after it had ended TLS")
        self._from_peer.write(self._received[:count])
        found = self._decrypt() if self._shake() else []
        self._collect()
        if sum(map(len, self._ciphertext)) > MAX_UNREAD:
            raise TlsError("it does not read what TLS answers")
        return found

    def _begin(self, cleartext: list[Buffer]) -> None:
        self._begun = True
        self._received = memoryview(bytearray(RECEIVE))
        self._ciphertext = cleartext
        self._shake()  # a client speaks first
        self._collect()

    def _shake(self) -> bool:
        """Go on with the handshake. Return whether it is done."""
        if not self._ready:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                return False
            except ssl.SSLError as error:
                raise self._fail(error) from error
            self._ready = True
        return True

    def _fail(self, error: ssl.SSLError) -> TlsError:
        """Note that TLS is over. What waits to be sent now ends with an alert, which tells the peer
        why."""
        self._failed = True
        self._collect()
        # what a handshake with another pre-shared key looks like
        other = not self._ready and error.reason == "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"
        return TlsError(explain(error) + (": is it the same key?" if other else ""))

    def _decrypt(self) -> list[Message]:
        """Give the machine all that has arrived."""
        found: list[Message] = []
        more = True
        while more:
            target, filled = self._machine.target(), 0
            while more and filled < len(target):
                try:
                    count = self._tls.read(len(target) - filled, target[filled:])
                except ssl.SSLWantReadError:
                    more = False
                except ssl.SSLError as error:
                    raise self._fail(error) from error
                else:
                    filled += count  # type: ignore[operator]
                    if not count:  # the peer ends TLS; the end of the stream follows
                        self._ended, more = True, False
            if filled:
                found += self._machine.received(filled)
        return found

    def _encrypt(self) -> None:
        """Encrypt what the machine wants to send, until enough waits to be sent."""
        plain = self._machine.outgoing
        waiting = sum(map(len, self._ciphertext))
        done = 0
        while done < len(plain) and waiting < ENCRYPT:
            piece = plain[done]
            done += 1
            if len(piece) < JOIN:
                pieces, size = [piece], len(piece)
                while done < len(plain) and size + len(plain[done]) <= JOIN:
                    pieces.append(plain[done])
                    size += len(plain[done])
                    done += 1
                piece = b"".join(pieces)
            rest = memoryview(piece)
            while rest and waiting < ENCRYPT:
                count = self._tls.write(rest[:STEP])
                rest = rest[count:]
                waiting += count
            if rest:
                done -= 1
                plain[done] = rest
        del plain[:done]
        self._collect()

    def _collect(self) -> None:
        if self._to_peer.pending:
            self._ciphertext.append(self._to_peer.read())


def explain(error: ssl.SSLError) -> str:
    """Return what is wrong, in words for whoever set up the certificates."""
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = " (is its authority in ca-cert.pem?)" if error.verify_code in UNKNOWN_CA else ""
        return f"the peer's certificate is not valid: {error.verify_message.rstrip('.')}{hint}"
    reason = (error.reason or str(error)).lower().replace("_", " ")
    for prefix in ("sslv3 alert ", "tlsv1 alert ", "tlsv13 alert "):
        if reason.startswith(prefix):
            return f"the peer refuses TLS: {reason.removeprefix(prefix)}"
    return f"TLS failed: {reason}"
