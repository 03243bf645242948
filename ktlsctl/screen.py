# SPDX-License-Identifier: BSD-2-Clause
"""A full-screen view on the terminal: draws lines, waits, asks again, until `q`.

curses compares each screen with the last one and writes only what differs, so that nothing flickers and a slow ssh
line is enough; it puts the terminal back as it was, also after an exception.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Sequence
from typing import Any

#: height and width in characters -> the lines to show
Draw = Callable[[int, int], Sequence[str]]


class NoScreen(Exception):
    """The terminal cannot do it; the message is one sentence."""


def show(update: Callable[[], Draw], interval: float) -> None:
    """Ask `update` every `interval` seconds and draw what it returns; a resized terminal is redrawn at once.

    Returns when `q` is pressed, and when the terminal is gone.  Raises NoScreen when curses cannot use it.
    """
    import curses

    def loop(window: curses.window) -> None:
        with contextlib.suppress(curses.error):  # a terminal that cannot hide its cursor
            curses.curs_set(0)
        with contextlib.suppress(curses.error):
            curses.use_default_colors()
        draw, due = update(), time.monotonic() + interval
        while True:
            _paint(window, draw)
            while True:
                window.timeout(max(0, int((due - time.monotonic()) * 1000)))
                key = window.getch()
                if key in (ord("q"), ord("Q")):
                    return
                if key == -1 and _gone():
                    return
                if key in (curses.KEY_RESIZE, -1):
                    break
            if time.monotonic() >= due:
                draw, due = update(), time.monotonic() + interval

    try:
        curses.setupterm()
        if not curses.tigetstr("cup"):
            raise NoScreen("this terminal cannot move its cursor")
        curses.wrapper(loop)
    except curses.error as error:
        if _gone():  # there is nothing left that could be put back
            return
        raise NoScreen(f"this terminal cannot show a screen ({error})") from None


def _gone() -> bool:
    """Whether the terminal hung up: where SIGHUP is ignored only this tells, and every read ends at once."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    return any(events & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, events in poll.poll(0))


def _paint(window: Any, draw: Draw) -> None:
    import curses

    height, width = window.getmaxyx()
    window.erase()
    for row, line in enumerate(draw(height, width)):
        # The last cell of the screen cannot be written without scrolling: curses says so after writing it.
        with contextlib.suppress(curses.error):
            window.addnstr(row, 0, line, width)
    window.refresh()
