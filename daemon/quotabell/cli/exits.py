"""Exit codes: those of sysexits(3), so that a supervisor can tell what a restart cannot cure."""

OK = 0
FAILED = 1
EX_UNAVAILABLE = 69
EX_CONFIG = 78
