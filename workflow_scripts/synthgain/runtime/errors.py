"""The one exception that a user is meant to read."""


class SynthGainError(Exception):
    """Something the user can mend: says in one line what, where, and what to do.

    Scripts print it without a traceback and exit with code 1.
    """
