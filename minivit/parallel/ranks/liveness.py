"""How ranks notice that one of them was killed, hangs, or has an error, and how they all end then.

Each rank has a thread for this. The ranks form a ring: each sends a *heartbeat* to the next one every half second, and
notices if that of the one before it stays away. A rank with an error sends a *note* to all others.

    error in one rank        note to all; the others raise RankError at their next message; all end in an orderly way
    no heartbeat             the rank is killed, stopped or cut off: the first of the others prints a line, and ends all
    a step takes too long    a rank whose step takes too long ends all, as if it had no heartbeat
"""

import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .alone import RankError
from .messages import ANY_RANK, BEAT_TAG, NOTE_TAG, Messages

BEAT = 0.5                   # seconds between two heartbeats
SILENCE = 10.0               # seconds without a heartbeat after which a rank counts as gone
GRACE = 5.0                  # seconds that the ranks have to end in an orderly way after an error
NOTE_BYTES = 4000
SHORTEST_LIMIT, FIRST_LIMIT, FACTOR = 30.0, 900.0, 20.0       # see `Liveness.limit`


class Liveness:
    """The thread of one rank that sends and expects heartbeats and notes.

    Parameters
    ----------
    messages : Messages
    advice : str
        What to do after the end of the training, the second half of the line.
    last_words : function
        Prints the line.
    """

    def __init__(self, messages: Messages, advice: str, last_words: Callable[[str], None]) -> None:
        self.messages, self.advice, self.last_words = messages, advice, last_words
        self.next, self.before = (messages.rank + 1) % messages.size, (messages.rank - 1) % messages.size
        self.steps, self.longest = 0, 0.0                             # seconds of the longest step but the first
        self._since: float | None = None                              # when the current step began to compute
        self._closing, self._beat, self._note = threading.Event(), np.zeros(1, np.int8), np.zeros(NOTE_BYTES, np.uint8)
        self._beats, self._notes = list[Any](), list[Any]()           # a request that is dropped loses its array
        self._expected_beat = messages.receive(np.empty(1, np.int8), self.before, BEAT_TAG)
        self._expected_note = self._expect_note()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    # ---- what the main thread calls ----------------------------------------------------------------------

    def begin_step(self) -> None:
        """Note that this rank begins to compute its part of a step."""
        self._since = time.monotonic()

    def end_step(self) -> None:
        """Note that this rank has computed its part of a step."""
        if self._since is not None and self.steps:                    # the first step also compiles
            self.longest = max(self.longest, time.monotonic() - self._since)
        self._since, self.steps = None, self.steps + 1

    def tell(self, text: str) -> None:
        """Send a note about an error of this rank to all others."""
        if not self.messages.problem:
            self._send_note({"text": text})

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._thread.join()
        with self.messages.lock:
            for request in (self._expected_beat, self._expected_note):
                request.Cancel()
                request.Free()

    @property
    def limit(self) -> float:
        """Seconds that this rank's part of a step may take."""
        return SHORTEST_LIMIT + FACTOR * self.longest if self.longest else FIRST_LIMIT

    # ---- the thread --------------------------------------------------------------------------------------

    def _run(self):
        """Send heartbeats, and look for those of the rank before and for notes, until `close`."""
        heard = woken = time.monotonic()
        while not self._closing.wait(BEAT):
            now = time.monotonic()
            if self._hears_beat() or now - woken > 4 * BEAT:          # so long: this process itself was stopped
                heard = now
            woken, since = now, self._since
            if note := self._read_note():
                self._obey(note)
                return
            if now - heard > SILENCE:
                self._give_up(self.before, f"has not answered for {SILENCE:.0f} s: it was killed or stopped, or its "
                                           "machine or network failed")
            if since is not None and now - since > self.limit:
                self._give_up(self.messages.rank, f"hangs: its step takes longer than {self.limit:.0f} s")

    def _hears_beat(self):
        """Send a heartbeat to the next rank. Return whether one has come from the rank before."""
        self._beats = [beat for beat in self._beats if not self.messages.is_complete(beat)]
        self._beats.append(self.messages.send(self._beat, self.next, BEAT_TAG))
        heard = False
        while self.messages.is_complete(self._expected_beat):
            self._expected_beat = self.messages.receive(np.empty(1, np.int8), self.before, BEAT_TAG)
            heard = True
        return heard

    def _expect_note(self):
        return self.messages.receive(self._note, ANY_RANK, NOTE_TAG)

    def _read_note(self):
        """Return the note that has come, if any."""
        if not self.messages.is_complete(self._expected_note):
            return None
        note = json.loads(self._note.tobytes().rstrip(b"\0"))
        self._note[:] = 0
        self._expected_note = self._expect_note()
        return note

    def _send_note(self, note):
        """Send a note to all other ranks."""
        text = " ".join(note["text"].split()).encode()[:NOTE_BYTES // 2 - 100].decode(errors="ignore")
        content = np.frombuffer(json.dumps({**note, "text": text}, ensure_ascii=False).encode(), np.uint8)
        self._notes += [self.messages.send(content, rank, NOTE_TAG) for rank in range(self.messages.size)
                        if rank != self.messages.rank]

    def _obey(self, note):
        """Do what a note asks for: raise its error in the main thread, or end at once."""
        if "gone" in note:
            self._end(note["gone"], note["text"])
        self.messages.problem = RankError(note["text"])
        # rank 0 first, because the end of another rank would be the end of rank 0, before it has printed the line
        if not self._closing.wait(GRACE if self.messages.rank == 0 else 2 * GRACE):
            self._end(None, note["text"])

    def _give_up(self, rank, what):
        """Tell all others that a rank is gone, and end."""
        text = f"rank {rank} of {self.messages.size} {what}"
        self._send_note({"text": text, "gone": rank})
        self._end(rank, text)

    def _end(self, gone, text):
        """Print a line, if this is the first rank that is alive, and end all ranks."""
        if self.messages.rank == (1 if gone == 0 else 0):
            self.last_words(f"minivit: error: {text}; {self.advice}")
        else:
            time.sleep(GRACE)                                         # the rank that prints ends all, also this one
        end_all(self.messages.comm, 2)


def end_all(comm: Any, code: int) -> None:
    """End all ranks with an exit code, without waiting for any."""
    time.sleep(0.5)                                                   # until mpiexec has passed on what was printed
    comm.Abort(code)
    os._exit(code)

