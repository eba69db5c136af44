"""Pictures with masks, in which every pixel has a class."""

from switchnorm.data.segmentation.ade20k import Ade20k
from switchnorm.data.segmentation.camvid import CamVid
from switchnorm.data.segmentation.cityscapes import Cityscapes
from switchnorm.data.segmentation.labels import IGNORED
from switchnorm.data.segmentation.masks import Masks
from switchnorm.data.segmentation.scene import Scene
from switchnorm.data.segmentation.segmentation_dataset import SegmentationDataset

__all__ = ["IGNORED", "Ade20k", "CamVid", "Cityscapes", "Masks", "Scene", "SegmentationDataset"]
