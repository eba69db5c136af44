from dataclasses import replace

import pytest

from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder
from switchnorm.studies import demo


def test_all_norms_get_the_same_budget_and_tuning(tmp_path):
    configs = [config for _, config in demo.plan(tmp_path)]
    assert sorted({config.model.norm for config in configs}) == ["bn", "gn+ws", "sn", "ssn"]
    assert sorted({config.seed for config in configs}) == [0, 1, 2]
    assert {config.train.samples_per_gpu for config in configs} == {2}
    alike = [replace(config, seed=0, model=replace(config.model, norm="bn")) for config in configs]
    assert all(config == alike[0] for config in alike)


def test_runs_of_another_configuration_are_not_mixed_in(tmp_path):
    path, config = demo.plan(tmp_path)[0]
    RunFolder.create(path, replace(config, train=replace(config.train, epochs=99)), ())
    with pytest.raises(InputError, match=r"another configuration, with train\.epochs 99 and not 8"):
        demo.demo(tmp_path)
