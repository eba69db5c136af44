"""What a run needs besides its task: configuration, folder, optimizer, schedules, callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from switchnorm.training.rehearsal import DryRun, dry_run

__all__ = ["DryRun", "dry_run"]


def __getattr__(name: str) -> Any:
    # Not imported before it is asked for: reading a configuration needs no torch.
    if name in __all__:
        from switchnorm.training import rehearsal

        return getattr(rehearsal, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
