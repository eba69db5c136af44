"""kornia's networks for local features and edges."""

from __future__ import annotations

from kornia import feature

from tests.hosts.host import Host, images

TITLE = "kornia"

HOSTS = [
    Host("HardNet", lambda: feature.HardNet(pretrained=False), images(32, 1)),
    Host("HyNet", lambda: feature.HyNet(pretrained=False), images(32, 1)),
    Host("KeyNet", lambda: feature.KeyNet(pretrained=False), images(32, 1)),
    Host("DISK", feature.DISK, images(32)),
    Host("XFeatModel", feature.XFeatModel, images(64, 1)),
]
