"""A small process that outlives the ranks: if they are killed, it prints one line on what to do.

If a process of an MPI program is killed, most implementations kill all others at once, so that no rank can say
anything. The small process reads from a pipe whose other end belongs to rank 0. The system closes the pipe when rank 0
ends, in whatever way.
"""

import contextlib
import subprocess
import sys

_PROGRAM = """
import sys
last = ""
for line in sys.stdin:
    last = line
if last != "bye\\n":
    sys.stderr.write(last)
"""


class Obituary:
    """A line for stderr, printed after this process has been killed.

    Parameters
    ----------
    text : str
        The line.
    """

    def __init__(self, text: str) -> None:
        # its own session, so that a signal to the ranks does not reach it
        self._process = subprocess.Popen([sys.executable, "-S", "-E", "-c", _PROGRAM], stdin=subprocess.PIPE, text=True,
                                         stdout=subprocess.DEVNULL, start_new_session=True)
        self.write(text)

    def write(self, text: str) -> None:
        """Replace the line."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):                # the small process was killed, or has ended
            self._process.stdin.write(" ".join(text.split()) + "\n")
            self._process.stdin.flush()

    def cancel(self) -> None:
        """Print nothing."""
        self.write("bye")
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
