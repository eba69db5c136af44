"""Ultralytics' networks, from their YAML files."""

from __future__ import annotations

from ultralytics.nn.tasks import ClassificationModel, DetectionModel, SegmentationModel

from tests.hosts.host import Host, images

TITLE = "Ultralytics"

HOSTS = [
    Host("YOLO11n", lambda: DetectionModel("yolo11n.yaml", nc=2, verbose=False), images(64)),
    Host("YOLOv8n-seg", lambda: SegmentationModel("yolov8n-seg.yaml", nc=2, verbose=False), images(64)),
    Host("YOLO11n-cls", lambda: ClassificationModel("yolo11n-cls.yaml", nc=2, verbose=False), images(64)),
]
