"""Checkpoints: what was published, reading files safely, loading strictly, and converting."""

from switchnorm.weights.card import Card
from switchnorm.weights.checkpoint import CheckpointFile, load_published, load_state, read_checkpoint, read_state
from switchnorm.weights.convert import convert
from switchnorm.weights.importance import file_importance, state_importance
from switchnorm.weights.published import PUBLISHED, Checkpoint, published

__all__ = [
    "PUBLISHED",
    "Card",
    "Checkpoint",
    "CheckpointFile",
    "convert",
    "file_importance",
    "load_published",
    "load_state",
    "published",
    "read_checkpoint",
    "read_state",
    "state_importance",
]
