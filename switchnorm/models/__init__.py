"""Networks by name, each with any norm."""

from switchnorm.models.family import Family
from switchnorm.models.registry import create_model, list_models, norm_of, parse_norm, pictures_of, register, task_of

__all__ = ["Family", "create_model", "list_models", "norm_of", "parse_norm", "pictures_of", "register", "task_of"]
