"""Many runs as one table."""

from switchnorm.errors import unknown

#: What `switchnorm study NAME` makes, by name; read by `--help`, so without torch.
STUDIES = {
    "geometry": "accuracy of BN, GN, SN, SSN and GN + WS by (GPUs, samples per GPU), the papers' headline table",
    "compare": "the score of any variants of one training, by mean and spread over seeds",
}


def find_study(name: str) -> str:
    """`name` if a study has it; raise `InputError` with the nearest name otherwise."""
    if name not in STUDIES:
        raise unknown("study", name, STUDIES)
    return name
