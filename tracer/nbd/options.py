"""What is inside of options and of the replies to them."""

from tracer.errors import NbdError
from tracer.nbd import protocol as p


def parse_listed(body: bytes) -> bytes:
    """Return the name in a reply to LIST. Raises NbdError if it is malformed."""
    length = p.U32.unpack_from(body)[0] if len(body) >= p.U32.size else p.MAX_STRING + 1
    name = body[p.U32.size : p.U32.size + length]
    try:
        name.decode()
    except UnicodeDecodeError:
        length = p.MAX_STRING + 1
    if length > p.MAX_STRING or length > len(name):
        raise NbdError("server sent a malformed name of an export")
    return name


def reason(replies: list[tuple[int, bytes]]) -> str:
    """Return why the server refuses an option: its own words, or the name of the error."""
    kind, message = replies[-1]
    known = p.Rep(kind).name if kind in p.Rep.__members__.values() else f"0x{kind:x}"
    said = message.decode(errors="replace") or known
    return f"{said} (write nbds:// or nbds+unix://)" if kind == p.Rep.ERR_TLS_REQD else said


def parse_info(data: bytes) -> tuple[bytes, list[int]] | None:
    """Return the export name and information types of an INFO or GO option; None if malformed."""
    if len(data) < 6:
        return None
    (length,) = p.U32.unpack_from(data)
    if length > p.MAX_STRING or len(data) < 6 + length:
        return None
    (count,) = p.U16.unpack_from(data, 4 + length)
    if len(data) != 6 + length + 2 * count:
        return None
    wanted = [p.U16.unpack_from(data, 6 + length + 2 * i)[0] for i in range(count)]
    return data[4 : 4 + length], wanted


def parse_context(data: bytes) -> tuple[bytes, list[bytes]] | None:
    """Return the export name and queries of a META_CONTEXT option; None if malformed."""
    strings: list[bytes] = []
    at, left = 0, 1  # the export name first, then a count and that number of queries
    while left:
        if len(data) < at + 4:
            return None
        (length,) = p.U32.unpack_from(data, at)
        at += 4
        if length > p.MAX_STRING or len(data) < at + length:
            return None
        strings.append(data[at : at + length])
        at += length
        left -= 1
        if len(strings) == 1:
            if len(data) < at + 4:
                return None
            (left,) = p.U32.unpack_from(data, at)
            at += 4
    return (strings[0], strings[1:]) if at == len(data) else None
