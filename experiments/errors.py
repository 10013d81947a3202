"""What the person at the command line can put right."""


class LabError(ValueError):
    """A mistake in the request or in the data, told in one line and without a traceback."""


class WriteError(LabError):
    """Results cannot be kept where they should be: no experiment that follows could do better."""
