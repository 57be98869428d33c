"""The one error that users see."""


class KdedgeError(Exception):
    """Something the user can mend: says what was given, what is allowed and how to go on.

    The command line prints it as one line and exits with status 2; anything else that is raised
    is a defect of kdedge.
    """
