"""What informs, but decides nothing: where it fails it says so, and what it stands beside goes on."""

import logging
import traceback
from collections.abc import Callable
from typing import TypeVar

from synthgain.runtime.command import Terminated, logger
from synthgain.runtime.errors import SynthGainError

Found = TypeVar("Found")


def reason_of(error: Exception) -> str:
    """Return an error in one line; its type too where it is not one of our own, whose text says all."""
    text = " ".join(str(error).split())
    return text if isinstance(error, SynthGainError) else f"{type(error).__name__}: {text}".rstrip(": ")


class Attempts:
    """Computes tables that may fail. failed: name of the table → reasons, each once; every one is logged.

    A stop, a lack of memory or of disk is no failure of a table, nor is what `stops` names: these are raised on.
    """

    def __init__(self, stops: tuple[type[Exception], ...] = ()) -> None:
        self.failed: dict[str, list[str]] = {}
        self._stops: tuple[type[Exception], ...] = (MemoryError, OSError, Terminated, *stops)

    def __call__(self, name: str, make: Callable[[], Found], otherwise: Found, where: str = "") -> Found:
        """Return `make()`, or `otherwise` where it raises. where: the part of the table, such as a test set."""
        try:
            return make()
        except self._stops:
            raise
        except Exception as error:
            reason = f"{where}: {reason_of(error)}" if where else reason_of(error)
            logger.warning("%s failed%s: %s", name, f" on {where}" if where else "", reason_of(error))
            logging.getLogger("synthgain.file").warning("%s", traceback.format_exc())
            if reason not in self.failed.setdefault(name, []):
                self.failed[name].append(reason)
            return otherwise
