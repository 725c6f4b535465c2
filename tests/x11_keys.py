"""Keys for a window on an X display, by Xlib alone: how a test answers a box of a program that it runs under Xvfb."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

ESCAPE, RIGHT, SPACE = 0xFF1B, 0xFF53, 0x20  # keysyms
KEY_PRESS, KEY_RELEASE = 2, 3
KEY_MASKS = {KEY_PRESS: 1, KEY_RELEASE: 2}


class _KeyEvent(ctypes.Structure):
    """XKeyEvent, with the room that an XEvent takes."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("root", ctypes.c_ulong),
        ("subwindow", ctypes.c_ulong),
        ("time", ctypes.c_ulong),
        ("place", ctypes.c_int * 4),
        ("state", ctypes.c_uint),
        ("keycode", ctypes.c_uint),
        ("same_screen", ctypes.c_int),
        ("rest", ctypes.c_long * 24),
    )


def press_keys(display: str, title: str, keysyms: Sequence[int]) -> bool:
    """Press keys in the window whose title begins so; whether there is one."""
    with _connection(display) as (x11, connection):
        root = x11.XDefaultRootWindow(connection)
        for window in _windows(x11, connection, root):
            if _title(x11, connection, window).startswith(title):
                for keysym in keysyms:
                    for kind in (KEY_PRESS, KEY_RELEASE):
                        _send(x11, connection, root, window, kind, keysym)
                return True
    return False


@contextmanager
def _connection(display: str) -> Iterator[tuple[ctypes.CDLL, ctypes.c_void_p]]:
    x11 = ctypes.CDLL(ctypes.util.find_library("X11") or "libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XDefaultRootWindow.restype = ctypes.c_ulong
    connection = ctypes.c_void_p(x11.XOpenDisplay(display.encode()))
    assert connection, display
    try:
        yield x11, connection
    finally:
        x11.XCloseDisplay(connection)


def _windows(x11: ctypes.CDLL, connection: ctypes.c_void_p, root: int) -> list[int]:
    _, children, count = ctypes.c_ulong(), ctypes.POINTER(ctypes.c_ulong)(), ctypes.c_uint()
    unused = ctypes.byref(_)
    x11.XQueryTree(
        connection, ctypes.c_ulong(root), unused, unused, ctypes.byref(children), ctypes.byref(count)
    )
    return [children[index] for index in range(count.value)]


def _title(x11: ctypes.CDLL, connection: ctypes.c_void_p, window: int) -> str:
    name = ctypes.c_char_p()
    x11.XFetchName(connection, ctypes.c_ulong(window), ctypes.byref(name))
    return (name.value or b"").decode("latin-1")


def _send(
    x11: ctypes.CDLL, connection: ctypes.c_void_p, root: int, window: int, kind: int, keysym: int
) -> None:
    event = _KeyEvent(
        type=kind, send_event=1, display=connection, window=window, root=root, same_screen=1,
        keycode=x11.XKeysymToKeycode(connection, ctypes.c_ulong(keysym)),
    )  # fmt: skip
    mask = ctypes.c_long(KEY_MASKS[kind])
    x11.XSendEvent(connection, ctypes.c_ulong(window), 1, mask, ctypes.byref(event))
    x11.XSync(connection, 0)
