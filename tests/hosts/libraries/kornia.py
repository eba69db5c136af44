"""kornia's networks for local features and edges."""

from __future__ import annotations

from kornia import feature

from tests.hosts.host import Host, images

TITLE = "kornia"

#: Their last map is a single pixel, whose size no plan knows.
SINGLE = {"in": "expected more than 1 value in each group of a sample when training"}

HOSTS = [
    Host("HardNet", lambda: feature.HardNet(pretrained=False), images(32, 1), why=SINGLE),
    Host("HyNet", lambda: feature.HyNet(pretrained=False), images(32, 1), why=SINGLE),
    Host("KeyNet", lambda: feature.KeyNet(pretrained=False), images(32, 1)),
    Host("DISK", feature.DISK, images(32)),
    Host("XFeatModel", feature.XFeatModel, images(64, 1)),
]
