"""What opens something is a context manager: leaving the block closes it."""

from typing import Self


class Closing:
    """Gives a class with a ``close`` method the ``with`` statement. Closing twice is harmless."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
