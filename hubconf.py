"""Networks for `torch.hub`: `torch.hub.load("OWNER/switchnorm", "create_model", "cifar_resnet20", norm="sn")`."""

dependencies = ["torch", "torchvision", "numpy", "PIL", "yaml", "safetensors"]

from switchnorm import create_model, fold, load, switch  # noqa: E402, F401
