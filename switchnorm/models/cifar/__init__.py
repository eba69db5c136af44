"""Networks for small pictures (CIFAR, digits)."""
