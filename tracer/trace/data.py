"""A trace together with the bytes that its ops wrote.

The bytes come from the payload store. If the trace has digests alone, stand-ins are made from
these.
"""

from pathlib import Path

from tracer.closing import Closing
from tracer.digest import digest, stand_in
from tracer.errors import TraceError
from tracer.op import CARRIES_DATA, NO_PAYLOAD, ZERO_DIGEST, Buffer, Op
from tracer.trace.file import Trace
from tracer.trace.packed import PackedReader, open_payloads
from tracer.trace.payload_reader import PayloadReader
from tracer.trace.payloads import payload_path
from tracer.trace.records import MAX_LENGTH, Mismatch


class TraceWithData(Closing):
    """A trace opened for reading, with its payloads.

    Raises TraceError if the trace cannot be read, or if its payload store is missing or not its
    own.
    """

    def __init__(self, path: Path) -> None:
        self.trace = Trace(path)
        self.real = self.trace.header.payloads == "full"
        """Whether the payloads are the guest's; otherwise they are stand-ins made from the
        digests."""
        self.payloads: PayloadReader | PackedReader | None = None
        """The payload store; None if the trace has digests alone."""
        if self.real:
            try:
                self.payloads = open_payloads(payload_path(path), self.trace.header.id)
            except BaseException:
                self.trace.close()
                raise

    def data(self, op: Op) -> Buffer | None:
        """Return the bytes that an op writes, or None if its kind carries no data.

        Raises TraceError if they are missing or do not match the op's digest.
        """
        if op.kind not in CARRIES_DATA:
            return None
        if self.payloads is None or op.digest == ZERO_DIGEST:
            return stand_in(op.digest, op.length)
        if op.payload == NO_PAYLOAD:
            raise TraceError(f"{self.trace.path}: op #{op.seq} has no payload")
        data = self.payloads.read(op.payload, op.length)
        if digest(data) != op.digest:
            raise TraceError(
                f"{self.payloads.path}: the payload of op #{op.seq} is not what was written"
            )
        return data

    def returned(self, mismatch: Mismatch) -> bytes | None:
        """Return the bytes that the test side returned; None if the trace does not have them."""
        length = mismatch.length
        if self.payloads is None or mismatch.payload == NO_PAYLOAD or length > MAX_LENGTH["data"]:
            return None
        try:
            data = self.payloads.read(mismatch.payload, length)
        except TraceError:
            return None
        return data if digest(data) == mismatch.digest else None

    def close(self) -> None:
        """Close the files. Closing twice is harmless."""
        self.trace.close()
        if self.payloads is not None:
            self.payloads.close()
