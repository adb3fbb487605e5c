"""What the person at the keyboard can mend: one line that says what, where, and what to do."""


class UserError(Exception):
    """The user's input or configuration is wrong.

    The message is one line: what is wrong, where, and what to do about it. Commands print it to standard error
    without a traceback and exit with status 2.
    """
