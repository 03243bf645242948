# SPDX-License-Identifier: BSD-2-Clause
"""Reading a connection until it ends, whatever the way: what came, and how it ended."""

from __future__ import annotations

import math

from ktlsctl.libssl import SSL_ERROR_ZERO_RETURN, TlsError
from ktlsctl.scenarios.ending import Ending
from ktlsctl.stage import MAX_RECORD, End


class Reader:
    """Keeps everything that an end has read.  `ending` is set once; nothing is read after it."""

    def __init__(self, end: End) -> None:
        self.end = end
        self.data = bytearray()
        self.ending = Ending()

    def read(self, most: float = math.inf) -> bool:
        """Read what is there, no record more once `most` bytes have come; whether anything moved.

        From a peer that sends without end there may always be more: then say how much is enough."""
        moved = False
        enough = len(self.data) + most
        while not self.ending and len(self.data) < enough:
            try:
                data = self.end.session.read_some(MAX_RECORD * 2)
            except TlsError as error:
                self.ending = ended(error)
                return True
            if data:
                self.data += data
            elif self.end.session.error == SSL_ERROR_ZERO_RETURN:
                self.ending = Ending(SSL_ERROR_ZERO_RETURN)
            else:
                break
            moved = True
        return moved


def ended(error: TlsError) -> Ending:
    return Ending(error.kind, error.errno, str(error))
