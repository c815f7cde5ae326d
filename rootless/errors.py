"""The one exception tree of rootless.

Owns every error a user can meet.  Each class knows its slug (stable, for scripts), the exit code of
the command line and the HTTP status of the REST API; an instance carries one sentence and, where
something can be done, a hint.  The fronts (cli/, api/) render it; nobody below them prints or exits,
and nobody matches on the text.

    RootlessError                   error              125  500
      UsageError                    usage              125  400
      NotFoundError                 not-found          1    404
        ImageNotFoundError          image-not-found    125  404
      ConflictError                 conflict           1    409
      NotModifiedError              not-modified       0    304
      HostError                     host               125  500
        NamespaceError              namespace          125  500
          NotExecutedError          not-executed       125  500
        IdMapError                  id-map             125  500
        NoSpaceError                no-space           125  500
      StorageError                  storage            125  500
      ImageError                    image              1    400
        ReferenceError_             reference          125  400
        DigestMismatchError         digest-mismatch    1    400
        LayerError                  layer              1    400
      BuildError                    build              1    500
        DockerfileError             dockerfile         1    400
      RegistryError                 registry           1    500
        RegistryAuthError           registry-auth      1    401
      LaunchError                   launch             128  500
        CommandNotFoundError        command-not-found  127  400
        CommandNotInvokedError      command-not-invoked 126 400

Message grammar: lower case, no full stop, "cannot <verb> <object>: <reason>", always with the path
or value.  A hint says what the reader can do, or is absent.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar


class RootlessError(Exception):
    """Anything that ends a command with one sentence instead of a traceback."""

    slug: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 125
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str = "", exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self._exit_code = exit_code

    @property
    def code(self) -> int:
        """Exit code of the command that failed with this error."""
        return type(self).exit_code if self._exit_code is None else self._exit_code

    def __str__(self) -> str:
        return self.message


class UsageError(RootlessError):
    """The request itself is malformed: bad flag value, conflicting flags, bad syntax."""

    slug = "usage"
    http_status = 400


class NotFoundError(RootlessError):
    """No such container, volume or network."""

    slug = "not-found"
    exit_code = 1
    http_status = 404


class ImageNotFoundError(NotFoundError):
    """No such image, here or at the registry."""

    slug = "image-not-found"
    exit_code = 125


class ConflictError(RootlessError):
    """The object is in a state that forbids the request: name in use, container running."""

    slug = "conflict"
    exit_code = 1
    http_status = 409


class NotModifiedError(RootlessError):
    """The object already is what was asked for."""

    slug = "not-modified"
    exit_code = 0
    http_status = 304


class HostError(RootlessError):
    """This machine or user cannot do what is needed; the hint says what an administrator could do."""

    slug = "host"


class NamespaceError(HostError):
    """The kernel refused a namespace."""

    slug = "namespace"


class NotExecutedError(NamespaceError):
    """A program cannot be executed; REASON says why without a verb, STATUS is a shell's: 126 or 127."""

    slug = "not-executed"

    def __init__(self, message: str, reason: str, status: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status


class IdMapError(HostError):
    """User or group IDs cannot be mapped as needed."""

    slug = "id-map"


class NoSpaceError(HostError):
    """A filesystem or quota is full."""

    slug = "no-space"


class StorageError(RootlessError):
    """The store on disk cannot be read or written."""

    slug = "storage"


class ImageError(RootlessError):
    """An image, archive or layer is malformed."""

    slug = "image"
    exit_code = 1
    http_status = 400


class ReferenceError_(ImageError):
    """An image reference does not follow the grammar."""

    slug = "reference"
    exit_code = 125


class DigestMismatchError(ImageError):
    """Bytes do not have the digest or size they were promised with."""

    slug = "digest-mismatch"


class LayerError(ImageError):
    """A layer's tar stream is malformed or tries to leave the layer."""

    slug = "layer"


class BuildError(RootlessError):
    """A step of a build failed; DETAIL are lines to show before the sentence: where, and last output."""

    slug = "build"
    exit_code = 1

    def __init__(
        self, message: str, *, hint: str = "", exit_code: int | None = None, detail: str = ""
    ) -> None:
        super().__init__(message, hint=hint, exit_code=exit_code)
        self.detail = detail


class DockerfileError(BuildError):
    """A Dockerfile says what cannot be; the detail shows the line, with a caret below the place."""

    slug = "dockerfile"
    http_status = 400


class RegistryError(RootlessError):
    """A registry cannot be reached or answered with an error."""

    slug = "registry"
    exit_code = 1


class RegistryAuthError(RegistryError):
    """A registry refused the credentials, or wants some."""

    slug = "registry-auth"
    http_status = 401


class LaunchError(RootlessError):
    """A container could be planned but not started."""

    slug = "launch"
    exit_code = 128


class CommandNotFoundError(LaunchError):
    """The command does not exist in the container."""

    slug = "command-not-found"
    exit_code = 127
    http_status = 400


class CommandNotInvokedError(LaunchError):
    """The command exists in the container but cannot be executed."""

    slug = "command-not-invoked"
    exit_code = 126
    http_status = 400
