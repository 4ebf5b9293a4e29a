"""The base of every class that opens something: a context manager whose exit closes it."""

from typing import Self


class Closing:
    """Adds the ``with`` statement to a class with a ``close`` method. Closing twice is harmless."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
