"""Numbers and fixed layouts of the NBD protocol, as tables.

Names in quotes are sections of the specification (see the package's docstring).
"""

import errno
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from tracer.op import Kind

# Magic numbers ("Protocol phases")
NBDMAGIC = 0x4E42444D41474943
IHAVEOPT = 0x49484156454F5054
OPTION_REPLY_MAGIC = 0x0003E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
STRUCTURED_REPLY_MAGIC = 0x668E33EF
OLDSTYLE_MAGIC = 0x00420281861253

# Layouts. All integers are big-endian.
HELLO = struct.Struct(">QQH")  # NBDMAGIC, IHAVEOPT, handshake flags
OPTION = struct.Struct(">QII")  # IHAVEOPT, option, data length
OPTION_REPLY = struct.Struct(">QIII")  # magic, option, reply type, data length
REQUEST = struct.Struct(">IHHQQI")  # magic, flags, type, cookie, offset, length
SIMPLE_REPLY = struct.Struct(">IIQ")  # magic, error, cookie
CHUNK = struct.Struct(">IHHQI")  # magic, flags, type, cookie, payload length
U16 = struct.Struct(">H")
U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
EXPORT = struct.Struct(">QH")  # size, transmission flags
INFO_EXPORT = struct.Struct(">HQH")  # info type, size, transmission flags
INFO_BLOCK_SIZE = struct.Struct(">HIII")  # info type, minimum, preferred, maximum payload
HOLE = struct.Struct(">QI")  # offset, length
EXTENT = struct.Struct(">II")  # length, status flags
CHUNK_ERROR = struct.Struct(">IH")  # error, message length

MAX_STRING = 4096
"""The longest string, in bytes ("Values": strings have at most 4096 bytes)."""

MAX_OPTION = 64 * 1024
"""The longest option data that is parsed, in bytes: room for a 4 KiB name and a dozen of the
longest context queries. A longer option is read to its end and refused with TOO_BIG."""

MAX_PAYLOAD = 32 * 1024 * 1024
"""The largest payload of a read or write, in bytes ("Size constraints": a client should not exceed
32 MiB unless the server advertises another maximum). qemu and nbdkit have the same limit."""


NO_MAXIMUM = 0xFFFFFFFF
"""The maximum block size of a server without a limit ("Size constraints")."""


class Handshake(IntFlag):
    """Handshake flags. Client and server use the same numbers."""

    FIXED_NEWSTYLE = 1 << 0
    NO_ZEROES = 1 << 1


class TransmissionFlag(IntFlag):
    """Transmission flags: what an export offers."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    ROTATIONAL = 1 << 4
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8
    SEND_RESIZE = 1 << 9
    SEND_CACHE = 1 << 10
    SEND_FAST_ZERO = 1 << 11


PASSED_ON = int(
    sum(TransmissionFlag)
    & ~TransmissionFlag.SEND_DF
    & ~TransmissionFlag.CAN_MULTI_CONN
    & ~TransmissionFlag.SEND_RESIZE
)
"""The flags of a driver that a guest is offered too. DF and several connections are our server's
own; the size of a disk stays as it is; and what a flag means that we do not know, we cannot do."""


class Option(IntEnum):
    """Options: a client's requests during negotiation."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    PEEK_EXPORT = 4
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10
    EXTENDED_HEADERS = 11


class Rep(IntEnum):
    """Types of option reply. The top bit marks an error."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = (1 << 31) + 1
    ERR_POLICY = (1 << 31) + 2
    ERR_INVALID = (1 << 31) + 3
    ERR_PLATFORM = (1 << 31) + 4
    ERR_TLS_REQD = (1 << 31) + 5
    ERR_UNKNOWN = (1 << 31) + 6
    ERR_SHUTDOWN = (1 << 31) + 7
    ERR_BLOCK_SIZE_REQD = (1 << 31) + 8
    ERR_TOO_BIG = (1 << 31) + 9


REP_ERROR = 1 << 31
"""The bit of an option reply's type that marks an error."""


class Info(IntEnum):
    """Types of information in the replies to INFO and GO."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


DISC = 2
"""The request type that ends the connection. All others are kinds of op (``tracer.op.Kind``)."""

NEEDED_FLAG: dict[int, int] = {
    Kind.FLUSH: TransmissionFlag.SEND_FLUSH,
    Kind.TRIM: TransmissionFlag.SEND_TRIM,
    Kind.CACHE: TransmissionFlag.SEND_CACHE,
    Kind.ZERO: TransmissionFlag.SEND_WRITE_ZEROES,
}
"""The transmission flag that an export must have for a command to be valid."""


class ReplyType(IntEnum):
    """Types of structured reply chunk. Bit 15 marks an error."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    ERROR = (1 << 15) + 1
    ERROR_OFFSET = (1 << 15) + 2


REPLY_ERROR = 1 << 15
"""The bit of a chunk's type that marks an error."""

REPLY_DONE = 1 << 0
"""The chunk flag that marks the last chunk of a reply."""

BASE_ALLOCATION = b"base:allocation"


class State(IntFlag):
    """base:allocation status flags."""

    HOLE = 1 << 0
    ZERO = 1 << 1


WIRE_ERRORS = {
    errno.EPERM: 1,
    errno.EIO: 5,
    errno.ENOMEM: 12,
    errno.EINVAL: 22,
    errno.ENOSPC: 28,
    errno.EOVERFLOW: 75,
    errno.ENOTSUP: 95,
    errno.ESHUTDOWN: 108,
}
"""From errno to the number on the wire ("Error values"). All other errors are sent as EINVAL, as
the section requires."""

ERRNO_BY_WIRE = {wire: number for number, wire in WIRE_ERRORS.items()}
"""From the number on the wire to errno."""


@dataclass(frozen=True, slots=True)
class BlockSizes:
    """Limits on the size and alignment of requests, in bytes ("Size constraints")."""

    minimum: int = 1
    preferred: int = 4096
    maximum: int = MAX_PAYLOAD


@dataclass(frozen=True, slots=True)
class Export:
    """A served disk: its size in bytes, its transmission flags, the limits on requests, and what
    the server calls it. A client that asks for no name gets this export too."""

    size: int
    flags: int
    sizes: BlockSizes = BlockSizes()
    name: str = ""
    description: str = ""
    """Text for people, at most MAX_STRING bytes."""
