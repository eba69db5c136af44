"""Checkpoints: reading files safely, and loading strictly."""

from switchnorm.weights.checkpoint import load_published, load_state, read_state
from switchnorm.weights.importance import state_importance

__all__ = ["load_published", "load_state", "read_state", "state_importance"]
