"""Names of segmentation networks that several tests take."""

NAME = "resnet50_dilated8+c1_bilinear_deepsup"
#: What a name may end with.
DECODERS = ("c1_bilinear", "c1_bilinear_deepsup", "ppm_bilinear", "ppm_bilinear_deepsup", "upernet", "upernet_lite")
