"""What goes wrong between here and the Hugging Face Hub, in a line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from switchnorm.errors import InputError

if TYPE_CHECKING:
    from switchnorm.deploy.hub import Repository

EXPECTED = "expected one that `switchnorm push` has written"


class UnreachableError(Exception):
    """The hub does not answer, or is not to be asked."""


@contextmanager
def explained(repository: Repository, done: str, *, writes: bool = False) -> Iterator[None]:
    """Turn what `huggingface_hub` raises into an `InputError`, or into `UnreachableError` for downloads."""
    from huggingface_hub import errors

    cannot = f"{repository} cannot be {done}"
    login = "log in by `hf auth login`, or set HF_TOKEN"
    try:
        yield
    except (InputError, UnreachableError):
        raise
    except errors.GatedRepoError as error:
        raise InputError(f"{cannot}: its owners let in whom they know; ask there for access, and {login}") from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{repository.name} has no revision {repository.revision!r} on the hub") from error
    except errors.RepositoryNotFoundError as error:
        refused = _status(error) in (401, 403)
        reason = "the hub knows no such repository, or it is private"
        if writes:
            reason = "the hub does not know the token" if refused else "the hub knows no such owner or repository"
        raise InputError(f"{cannot}: {reason}; see that the name is right, and {login}") from error
    except errors.LocalEntryNotFoundError as error:
        raise _unreachable(f"{_endpoint()} cannot be reached", cannot, writes) from error
    except errors.EntryNotFoundError as error:
        raise InputError(f"{cannot}: a file is missing there; {EXPECTED}") from error
    except errors.OfflineModeIsEnabled as error:
        raise _unreachable("HF_HUB_OFFLINE is set", cannot, writes) from error
    except errors.HFValidationError as error:
        raise InputError(f"{cannot}: {_first_line(error)}") from error
    except Exception as error:
        answer = next((each for each in _chain(error) if isinstance(each, errors.HfHubHTTPError)), None)
        if answer is not None:
            raise _answered(answer, cannot, writes) from error
        if any(isinstance(each, OSError) or _is_request(each) for each in _chain(error)):
            raise _unreachable(f"{_endpoint()} cannot be reached ({_first_line(error)})", cannot, writes) from error
        if isinstance(error, ValueError):  # as the hub's checks of a card's front matter
            raise InputError(f"{cannot}: {' '.join(str(error).split())[:300]}") from error
        raise


def _answered(error: Any, cannot: str, writes: bool) -> Exception:
    """What the hub's answer means."""
    status, said = _status(error), _first_line(error)
    if status in (401, 403):
        rule = f"the token may not {'write' if writes else 'read'} there ({said})"
        return InputError(f"{cannot}: {rule}; take one that may, by `hf auth login` or HF_TOKEN")
    if status >= 500 or status in (0, 429):
        return _unreachable(f"the hub answers {status or 'nothing'} ({said})", cannot, writes)
    return InputError(f"{cannot}: the hub answers {status} ({said})")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__


def _is_request(error: BaseException) -> bool:
    """Whether an error is of the package that makes requests; which one that is, versions differ in."""
    return type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "requests", "urllib3")


def _unreachable(reason: str, cannot: str, writes: bool) -> Exception:
    return InputError(f"{cannot}: {reason}") if writes else UnreachableError(reason)


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _status(error: Any) -> int:
    response = getattr(error, "response", None)
    return int(getattr(response, "status_code", 0) or 0)


def _first_line(error: BaseException) -> str:
    said = getattr(error, "server_message", None) or str(error)
    lines = [line.strip() for line in str(said).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]
