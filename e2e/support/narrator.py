"""Progress of something long, for a person who watches: steps with their times, and a summary at the end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

_BOLD, _DIM, _GREEN, _PLAIN = "\033[1m", "\033[2m", "\033[32m", "\033[0m"


class Narrator:
    """Tells what is going on, and how long it took."""

    def __init__(self, *, color: bool) -> None:
        self._start = time.monotonic()
        self._color = color
        self._steps: list[tuple[str, float]] = []
        self._last = ""

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce a step, and note its time when it is done."""
        print(f"\n{self._paint(_BOLD, f'[{self._clock()}] {title}')}", flush=True)
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        self._steps.append((title, took))
        print(self._paint(_GREEN, f"          done in {took:.1f} s"), flush=True)

    def say(self, text: str) -> None:
        """Tell a detail; the same one twice in a row is told once."""
        if text != self._last:
            print(f"{self._paint(_DIM, f'[{self._clock()}]')}   {text}", flush=True)
        self._last = text

    def summary(self, facts: list[tuple[str, str]], commands: list[str]) -> None:
        """Close with what happened, what it took, and where to look."""
        print(f"\n{self._paint(_BOLD, 'Summary')}")
        width = max(len(name) for name, _ in facts)
        for name, value in facts:
            print(f"  {name:<{width}}  {value}")
        print(f"\n{self._paint(_BOLD, 'Time')}")
        for title, took in self._steps:
            print(f"  {took:7.1f} s  {title}")
        print(f"  {time.monotonic() - self._start:7.1f} s  in all")
        print(f"\n{self._paint(_BOLD, 'Look around')}")
        for command in commands:
            print(f"  {command}")

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._start), 60)
        return f"{minutes:3d}:{seconds:02d}"

    def _paint(self, style: str, text: str) -> str:
        return f"{style}{text}{_PLAIN}" if self._color else text
