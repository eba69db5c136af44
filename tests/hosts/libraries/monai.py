"""MONAI's networks for volumes and slices."""

from __future__ import annotations

from monai.networks.nets import AttentionUnet, BasicUNet, DenseNet, DynUNet, SegResNet, SwinUNETR, UNet

from tests.hosts.host import Host, images

TITLE = "MONAI"


def _dyn_unet() -> DynUNet:
    return DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        kernel_size=[3, 3, 3, 3],
        strides=[1, 2, 2, 2],
        upsample_kernel_size=[2, 2, 2],
        filters=[8, 16, 16, 16],
        deep_supervision=True,
        deep_supr_num=2,
    )


HOSTS = [
    Host("UNet, 2D", lambda: UNet(2, 1, 2, (8, 16, 16), (2, 2), num_res_units=2, norm="batch"), images(16, 1)),
    Host("AttentionUnet, 2D", lambda: AttentionUnet(2, 1, 2, (8, 16, 16), (2, 2)), images(16, 1)),
    Host("BasicUNet, 3D", lambda: BasicUNet(3, 1, 2, (8, 8, 8, 8, 8, 8)), images(32, 1, dims=3)),
    Host("DynUNet, 3D, deep supervision", _dyn_unet, images(16, 1, dims=3)),
    Host(
        "SegResNet, 3D", lambda: SegResNet(3, init_filters=8, blocks_down=(1, 1), blocks_up=(1,)), images(16, 1, dims=3)
    ),
    Host("DenseNet, 3D", lambda: DenseNet(3, 1, 2, 8, 4, (2, 2)), images(16, 1, dims=3)),
    Host("SwinUNETR, 2D", lambda: SwinUNETR(1, 2, feature_size=12, spatial_dims=2, depths=(1, 1, 1, 1)), images(64, 1)),
]
