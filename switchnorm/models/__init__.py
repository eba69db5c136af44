"""Networks by name, each with any norm."""

from switchnorm.models.registry import create_model, list_models, norm_of, parse_norm, task_of

__all__ = ["create_model", "list_models", "norm_of", "parse_norm", "task_of"]
