"""The error types of distdl. Each is also the built-in error that a Python user would expect."""


class DistdlError(Exception):
    """Base of every error that distdl raises on purpose."""


class ArgumentError(DistdlError, ValueError):
    """An argument has a value that breaks a rule."""


class ArgumentTypeError(DistdlError, TypeError):
    """An argument has a type that breaks a rule."""


class GraphError(DistdlError, ValueError):
    """The autograd graph was used in a way that would give no gradient or a wrong one."""


class FileFormatError(DistdlError, ValueError):
    """A file is damaged, truncated, or not what its name says."""


class MissingDataError(DistdlError, FileNotFoundError):
    """A file, directory or data set is not on this machine; of data sets the message says how to get them."""


class LaunchError(DistdlError, RuntimeError):
    """The processes of a job were started in a way that cannot work."""


class PeerError(DistdlError, RuntimeError):
    """Another rank left, died, or disagrees with this one."""


class DivergenceError(DistdlError, FloatingPointError):
    """The training has diverged: gradients are NaN or infinite, again and again."""


class WorkerError(DistdlError, RuntimeError):
    """A worker process of a data loader died."""
