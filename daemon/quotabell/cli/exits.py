"""Exit codes: those of sysexits(3), so that a supervisor can tell what a restart cannot cure.

argparse ends with 2 for arguments that cannot be understood.
"""

from quotabell.errors import QuotabellError

OK = 0
FAILED = 1  # it went wrong, or the answer is no
EX_DATAERR = 65  # what was given to the command is refused
EX_NOINPUT = 66  # a file cannot be read
EX_UNAVAILABLE = 69  # the daemon or the database cannot be reached
EX_CANTCREAT = 73  # a file cannot be written, or is there already
EX_NOPERM = 77  # a token is missing or allows too little
EX_CONFIG = 78  # the configuration is wrong, or the database newer than this Quotabell
INTERRUPTED = 130  # Ctrl-C, as shells have it: 128 + SIGINT


class CommandFailed(QuotabellError):
    """The command could not do what it was asked for."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code
